"""Exports a trained network to ONNX or torch.export, and compares.

The file takes any batch and any size in multiples of 32: images as float32
from 0 to 255, RGB, (B, 3, H, W); it gives scores (B, K, H, W) and labels
(B, H, W). What the test pipeline does before, such as Resize, and sliding
windows are not in it.

An .onnx file holds standard operators; tools/deployment/run_onnx.py shows how
to use it with onnxruntime and NumPy alone. A .pt2 file needs PyTorch alone:
`torch.export.load(FILE).module(check_guards=False)`. TensorRT, not tried by
us: `trtexec --onnx=FILE --minShapes=image:1x3x256x256
--optShapes=image:1x3x512x512 --maxShapes=image:1x3x1024x2048`.
"""

import argparse
import importlib.util
import sys
import time
from pathlib import Path

import torch
from mmengine.config import DictAction

import mmfaseg  # noqa: F401  makes mmseg importable on this stack
from mmfaseg.utils.atomic_write import atomic_write


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Return the parsed command line."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        'model', help='config file, name of a config, or work dir'
    )
    parser.add_argument(
        'target', type=Path, help='file to write: .onnx, or .pt2'
    )
    parser.add_argument('--weights', help='checkpoint; a work dir has its own')
    parser.add_argument(
        '--sizes',
        nargs='+',
        metavar='BxHxW',
        help='where PyTorch and the file are compared',
    )
    parser.add_argument(
        '--time',
        action='store_true',
        help='also measure ONNX and PyTorch at each size, on this CPU',
    )
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=DictAction,
        default={},
        metavar='KEY=VALUE',
        help='settings that replace those of the config',
    )
    args = parser.parse_args(argv)
    if args.target.suffix not in ('.onnx', '.pt2'):
        parser.error(f'{args.target} must end in .onnx or .pt2')
    return args


def check_packages() -> None:
    """Find out before a long export.

    Raises:
        ValueError: if a package is missing.
    """
    missing = [
        name
        for name in ('onnx', 'onnxscript', 'onnxruntime')
        if importlib.util.find_spec(name) is None
    ]
    if missing:
        raise ValueError(f'ONNX needs: pip install {" ".join(missing)}')


def read_sizes(texts: list[str]) -> list[tuple[int, int, int]]:
    """Return batch, height and width of each.

    Raises:
        ValueError: if one is no such size, or no multiple of 32.
    """
    sizes = []
    for text in texts:
        parts = text.split('x')
        if len(parts) != 3 or not all(x.isdigit() for x in parts):
            raise ValueError(f'{text!r} is no BxHxW, such as 1x512x512')
        batch, height, width = map(int, parts)
        if batch < 1 or height % 32 or width % 32 or not height * width:
            raise ValueError(f'{text}: sides have to be multiples of 32')
        sizes.append((batch, height, width))
    return sizes


def describe(difference: float, labels: float) -> str:
    """Return in words how a file compares."""
    return (
        f'largest difference {difference:.1e}, '
        f'{labels:.2%} of the labels are others'
    )


def export_onnx(network, program, target: Path, sizes: list, timed: bool):
    """Write the file and print how it compares."""
    from mmfaseg.export import check_onnx, write_onnx

    with atomic_write(target) as unchecked:
        write_onnx(program, unchecked)
        for row in check_onnx(network, unchecked, sizes):
            size = 'x'.join(map(str, row['size']))
            print(size, describe(row['difference'], row['labels']))
    if timed:
        measure(network, target, sizes)


def export_pt2(network, program, target: Path, sizes: list):
    """Write the file and print how it compares."""
    from mmfaseg.export import compare

    with atomic_write(target) as unchecked:
        torch.export.save(program, unchecked)
        # the guards fix the number of windows to that of the example
        module = torch.export.load(unchecked).module(check_guards=False)
        for size in sizes:
            found = compare(network, module, size, str(unchecked))
            print('x'.join(map(str, size)), describe(*found))


def measure(network, target: Path, sizes: list, repeats: int = 5):
    """Print the best time of PyTorch and of onnxruntime."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(
        str(target), options, providers=['CPUExecutionProvider']
    )
    for size in sizes:
        image = 255 * torch.rand(size[0], 3, *size[1:])
        feed = {'image': image.numpy()}
        calls = {
            'PyTorch': lambda image=image: network(image),
            'onnxruntime': lambda feed=feed: session.run(None, feed),
        }
        best = {}
        for name, call in calls.items():
            call()
            times = []
            for _ in range(repeats):
                start = time.perf_counter()
                call()
                times.append(time.perf_counter() - start)
            best[name] = f'{name} {1000 * min(times):.0f} ms'
        print('x'.join(map(str, size)), ', '.join(best.values()))


def main(argv: list[str] | None = None) -> None:
    """Export, or say in one sentence why not."""
    from mmfaseg.apis import load_model
    from mmfaseg.export import SIZES, ExportedNetwork, export_program

    args = parse_args(argv)
    try:
        if args.target.suffix == '.onnx':
            check_packages()
        sizes = read_sizes(args.sizes) if args.sizes else list(SIZES)
        model = load_model(
            args.model, args.weights, cfg_options=args.cfg_options
        )
        network = ExportedNetwork(model)
        program = export_program(network)
        if args.target.suffix == '.pt2':
            export_pt2(network, program, args.target, sizes)
        else:
            export_onnx(network, program, args.target, sizes, args.time)
    except (OSError, ValueError, TypeError, RuntimeError) as error:
        sys.exit(f'error: {error}')
    print(f'wrote {args.target}')


if __name__ == '__main__':
    main()
