"""Exports a trained network to ONNX or torch.export, compared with PyTorch.

The file supports any batch size and any image size in multiples of 32. The
input is a batch of images, float32, 0 to 255, (B, C, H, W), with the channels
in the order used in training: RGB in all configs of this package. The outputs
are scores, (B, K, H, W), and labels, (B, H, W). Test pipeline transforms, such
as Resize, and sliding windows are not exported.

An .onnx file consists of standard operators; tools/deployment/run_onnx.py runs
it with only onnxruntime and NumPy. A .pt2 file requires only PyTorch:
`torch.export.load(FILE).module(check_guards=False)`. TensorRT (not tested):
`trtexec --onnx=FILE --minShapes=image:1x3x256x256
--optShapes=image:1x3x512x512 --maxShapes=image:1x3x1024x2048`.
"""

import argparse
import importlib.util
from pathlib import Path

import torch
from torch.utils.benchmark import Timer

from mmfaseg.utils.atomic_write import atomic_write
from mmfaseg.utils.command_line import (
    INFERENCE_ERRORS,
    add_cfg_options,
    exit_on_user_errors,
    hide_known_warnings,
)

PACKAGES = ('onnx', 'onnxscript', 'onnxruntime')


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Returns the parsed command line."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        'model', help='work dir, config file, or name of a config'
    )
    parser.add_argument('target', type=Path, help='output: .onnx or .pt2')
    parser.add_argument(
        '--weights', help='checkpoint (default: that of the work dir)'
    )
    parser.add_argument(
        '--sizes',
        nargs='+',
        metavar='BxHxW',
        help='input sizes at which to compare the file with PyTorch, besides '
        'one that is always compared',
    )
    parser.add_argument(
        '--fixed',
        metavar='BxHxW',
        help='export for this size only, which some backbones require',
    )
    parser.add_argument(
        '--opset',
        type=int,
        help="version of the ONNX operators (default: that of PyTorch's "
        'exporter)',
    )
    parser.add_argument(
        '--time',
        action='store_true',
        help='also measure the CPU time of ONNX and PyTorch at each size',
    )
    add_cfg_options(parser, 'model.test_cfg.mode=whole')
    args = parser.parse_args(argv)
    if args.target.suffix not in ('.onnx', '.pt2'):
        parser.error(f'{args.target} must end in .onnx or .pt2')
    if args.fixed and args.sizes:
        parser.error('--sizes cannot be combined with --fixed')
    if args.target.suffix != '.onnx' and (args.time or args.opset):
        parser.error('--time and --opset need a target that ends in .onnx')
    return args


def check_packages() -> None:
    """Raises ValueError if a package required for ONNX is missing."""
    missing = [x for x in PACKAGES if importlib.util.find_spec(x) is None]
    if missing:
        raise ValueError(f'ONNX needs: pip install {" ".join(missing)}')


def read_sizes(texts: list[str]) -> list[tuple[int, int, int]]:
    """Returns batch, height and width of each size.

    Raises:
        ValueError: if a size is invalid or not a multiple of 32.
    """
    sizes = []
    for text in texts:
        parts = text.split('x')
        if len(parts) != 3 or not all(x.isdigit() for x in parts):
            raise ValueError(
                f'{text!r} is not a size BxHxW, such as 1x512x512'
            )
        batch, height, width = map(int, parts)
        if batch < 1 or height % 32 or width % 32 or not height * width:
            raise ValueError(f'{text}: sides must be multiples of 32')
        sizes.append((batch, height, width))
    return sizes


def write_and_compare(
    network,
    target: Path,
    sizes: list,
    fixed: tuple[int, int, int] | None = None,
    opset: int | None = None,
) -> None:
    """Writes the file and prints the differences from PyTorch.

    The file is renamed to ``target`` only after the comparison has passed.
    """
    from mmfaseg.export import compare, export_program, load_onnx, write_onnx

    print(
        'tracing the network, which takes minutes for deep models ...',
        flush=True,
    )
    program = export_program(network, fixed)
    with atomic_write(target) as unchecked:
        print(f'writing {target.suffix} ...', flush=True)
        if target.suffix == '.onnx':
            write_onnx(program, unchecked, opset)
            run = load_onnx(unchecked)
        else:
            torch.export.save(program, unchecked)
            # the guards allow only the example's number of windows
            run = torch.export.load(unchecked).module(check_guards=False)
        print('comparing with PyTorch ...', flush=True)
        for size in sizes:
            difference, labels = compare(network, run, size, str(target))
            print(
                f'{"x".join(map(str, size))}: maximum difference '
                f'{difference:.1e}, {labels:.2%} of the labels differ'
            )


def measure(network, target: Path, sizes: list) -> None:
    """Prints the median time of PyTorch and of onnxruntime."""
    from mmfaseg.export import load_onnx

    run = load_onnx(target)
    for size in sizes:
        image = 255 * torch.rand(size[0], network.in_channels, *size[1:])
        pytorch, onnxruntime = (
            Timer(
                'function(image)',
                globals=dict(function=function, image=image),
                num_threads=torch.get_num_threads(),
            )
            .blocked_autorange(min_run_time=2)
            .median
            for function in (network, run)
        )
        print(
            f'{"x".join(map(str, size))}: PyTorch {1000 * pytorch:.0f} ms, '
            f'onnxruntime {1000 * onnxruntime:.0f} ms'
        )


def main(argv: list[str] | None = None) -> None:
    """Exports the network, or exits with an error message."""
    hide_known_warnings()
    from mmfaseg.apis import load_model
    from mmfaseg.export import SIZES, ExportedNetwork

    args = parse_args(argv)
    is_onnx = args.target.suffix == '.onnx'
    with exit_on_user_errors(INFERENCE_ERRORS):
        if is_onnx:
            check_packages()
        sizes = read_sizes(args.sizes) if args.sizes else list(SIZES)
        fixed = None
        if args.fixed:
            (fixed,) = sizes = read_sizes([args.fixed])
        elif SIZES[-1] not in sizes:
            sizes.append(SIZES[-1])
        model = load_model(
            args.model, args.weights, cfg_options=args.cfg_options
        )
        network = ExportedNetwork(model)
        write_and_compare(network, args.target, sizes, fixed, args.opset)
        if is_onnx and args.time:
            measure(network, args.target, sizes)
    print(f'wrote {args.target}')


if __name__ == '__main__':
    main()
