"""Writes the weights of a training checkpoint to a small file.

    python tools/model_converters/publish_model.py best.pth model.safetensors

Optimizer states and the weights before averaging (EMA) are removed. The class
names and the palette are kept. Code in checkpoints is not executed.
"""

import argparse
from pathlib import Path

import torch
from torch import Tensor

import mmfaseg
from mmfaseg.checkpoints import check_target, read_checkpoint, write_state
from mmfaseg.utils.command_line import exit_on_user_errors, hide_known_warnings


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Returns the parsed command line."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add('source', type=Path, help='checkpoint written by a training')
    add('target', type=Path, help='output file, .pth or .safetensors')
    add(
        '--dtype',
        choices=['float32', 'float16'],
        default='float32',
        help='data type of the weights (default: %(default)s)',
    )
    return parser.parse_args(argv)


def cast(name: str, tensor: Tensor, dtype: torch.dtype) -> Tensor:
    """Returns a tensor in another floating-point type.

    Raises:
        ValueError: if a value is not finite, or not in the range of the type.
    """
    if not tensor.is_floating_point():
        return tensor
    if not tensor.isfinite().all():
        raise ValueError(
            f'{name} has values that are not finite: the training diverged; '
            'use an earlier checkpoint'
        )
    result = tensor.to(dtype)
    if not result.isfinite().all():
        raise ValueError(
            f'{name} has values up to {tensor.abs().max():g}, which '
            f'{dtype} cannot store: use --dtype float32'
        )
    return result


def main(argv: list[str] | None = None) -> None:
    """Writes the file and prints its size."""
    hide_known_warnings()
    args = parse_args(argv)
    with exit_on_user_errors():
        check_target(args.target, args.source)
        content = read_checkpoint(args.source)
        if 'state_dict' not in content:
            raise ValueError(f'{args.source} has no entry "state_dict"')
        dtype = getattr(torch, args.dtype)
        state = {
            name: cast(name, tensor, dtype)
            for name, tensor in content['state_dict'].items()
        }
        meta = dict(mmfaseg_version=mmfaseg.__version__)
        found = content.get('meta', {})
        if 'dataset_meta' in found:
            meta['dataset_meta'] = {
                key: [x if isinstance(x, str) else list(x) for x in values]
                for key, values in found['dataset_meta'].items()
                if key in ('classes', 'palette')
            }
        write_state(args.target, state, meta)
    size = args.target.stat().st_size / 2**20
    print(f'{args.target}: {len(state)} tensors, {size:.1f} MiB')


if __name__ == '__main__':
    main()
