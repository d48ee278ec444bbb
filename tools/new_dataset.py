"""Writes a working config for a folder of images and a folder of masks.

Masks hold the number of the class of each pixel, 255 where nothing is known;
--remap and --colours write such masks where yours are others.
"""

import argparse
import os
import shlex
import sys
from pathlib import Path

from rich.progress import track

from mmfaseg.utils.command_line import hide_known_warnings

TOOLS = Path(__file__).resolve().parent
MODELS = ('small', 'r50', 'swin-t', 'swin-s', 'swin-b', 'swin-l')


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Return the parsed command line."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument('images', type=Path, help='folder of the images')
    parser.add_argument('masks', type=Path, help='folder of the masks')
    parser.add_argument('config', type=Path, help='the config to write, .py')
    parser.add_argument(
        '--classes',
        nargs='+',
        required=True,
        metavar='NAME',
        help='names in the order of their numbers, from 0',
    )
    parser.add_argument(
        '--out',
        type=Path,
        help='folder of the lists of the splits, and of masks that had to be '
        'written (default: data/NAME_OF_CONFIG)',
    )
    parser.add_argument(
        '--val',
        type=float,
        default=0.2,
        metavar='SHARE',
        help='of the images, where there are no folders train and val '
        '(default: %(default)s)',
    )
    parser.add_argument('--seed', type=int, default=0, help='of that choice')
    parser.add_argument(
        '--remap',
        nargs='+',
        default=[],
        metavar='OLD=NEW',
        help='labels to change, such as 255=1 for masks of 0 and 255',
    )
    parser.add_argument(
        '--colours',
        nargs='+',
        metavar='RRGGBB',
        help='colour of each class in the masks, in the order of --classes',
    )
    parser.add_argument(
        '--model',
        choices=MODELS,
        default='r50',
        help='small: without pretrained weights, for a CPU (default: '
        '%(default)s)',
    )
    parser.add_argument('--iterations', type=int, default=20000)
    parser.add_argument('--batch', type=int, default=8)
    return parser.parse_args(argv)


def read_colours(args: argparse.Namespace) -> dict | None:
    """Return the class of each colour.

    Raises:
        ValueError: if there is not one colour for each class.
    """
    if args.colours is None:
        return None
    if len(args.colours) != len(args.classes):
        raise ValueError(
            f'{len(args.colours)} --colours for {len(args.classes)} classes'
        )
    try:
        return {
            tuple(bytes.fromhex(x.lstrip('#'))): label
            for label, x in enumerate(args.colours)
        }
    except ValueError as error:
        raise ValueError(
            f'--colours takes six digits such as ff8000: {error}'
        ) from error


def prepare_data(args: argparse.Namespace):
    """Write the lists of the splits, and masks where they are needed.

    Returns:
        The pairs, with the folder that the config is to read masks from.

    Raises:
        ValueError: if images and masks do not fit, or labels are no
            classes.
    """
    from dataclasses import replace

    from mmfaseg.datasets.new_dataset import (
        IGNORED,
        convert_masks,
        find_labels,
        pair_files,
    )

    try:
        remap = dict(map(int, x.split('=')) for x in args.remap)
    except ValueError as error:
        raise ValueError('--remap takes pairs such as 255=1') from error
    colours = read_colours(args)
    pairing = pair_files(args.images, args.masks, args.val, args.seed)
    labels, in_colours = find_labels(pairing)
    if in_colours and colours is None:
        raise ValueError(
            'the masks hold colours: give the --colours of the classes'
        )
    labels = sorted({remap.get(x, x) for x in labels})
    invalid = [x for x in labels if x >= len(args.classes) and x != IGNORED]
    if invalid and colours is None:
        raise ValueError(
            f'the masks hold the labels {labels}, and there are '
            f'{len(args.classes)} --classes: name all of them, or --remap '
            'some'
        )
    only_ignored = (
        labels and labels[-1] == IGNORED and labels[:-1] in ([0], [])
    )
    if only_ignored and colours is None:
        raise ValueError(
            f'the masks hold the labels {labels} only, and 255 is ignored: '
            'is it a class? then --remap 255=1'
        )
    for split, names in pairing.names.items():
        path = args.out / 'splits' / f'{split}.txt'
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text('\n'.join(names) + '\n')
    if remap or colours:
        target = args.out / 'masks'
        total = sum(map(len, pairing.names.values()))
        writing = convert_masks(pairing, target, remap, colours)
        for _ in track(writing, f'masks to {target}', total):
            pass
        pairing = replace(pairing, masks=target, seg_map_suffix='.png')
    return pairing


def check_names(args: argparse.Namespace) -> None:
    """Refuse what would be overwritten or could not be read.

    Raises:
        ValueError: if a name is taken or of no config, or there is one class.
    """
    if args.config.suffix != '.py':
        raise ValueError(f'{args.config} must end in .py, as configs do')
    for path in (args.config, args.out / 'splits'):
        if path.exists():
            raise ValueError(
                f'{path} is there already: delete it, or choose another name '
                '(--out, for what is not the config)'
            )
    if len(args.classes) < 2:
        raise ValueError('two classes at least: name the background as well')


def main(argv: list[str] | None = None) -> None:
    """Write the config, look at what it reads, and say what is next."""
    hide_known_warnings()
    from mmengine.config import Config

    from mmfaseg.datasets.doctor import check_dataset
    from mmfaseg.datasets.new_config import config_text

    args = parse_args(argv)
    if args.out is None:
        args.out = Path('data') / args.config.stem
    try:
        check_names(args)
        pairing = prepare_data(args)
        text = config_text(
            args.config,
            pairing,
            args.classes,
            args.out,
            args.model,
            args.iterations,
            args.batch,
        )
        args.config.parent.mkdir(parents=True, exist_ok=True)
        args.config.write_text(text)
    except (ValueError, OSError) as error:
        sys.exit(f'error: {error}')
    for split, names in pairing.names.items():
        print(f'{split}: {len(names)} images')
    report = check_dataset(Config.fromfile(args.config), limit=50)
    for diagnostic in report.diagnostics:
        print(diagnostic)
    python, tools = map(os.path.relpath, (sys.executable, TOOLS))
    config = str(args.config)
    check = f'{tools}/analysis_tools/check_dataset.py'
    commands = (
        [python, check, config, '--out', 'classes.png'],
        [python, f'{tools}/train.py', config],
    )
    print(f'wrote {config}; next:')
    for command in commands:
        print(f'  {shlex.join(command)}')
    sys.exit(1 if report.errors else 0)


if __name__ == '__main__':
    main()
