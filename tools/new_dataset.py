"""Writes a working config for a folder of pictures and a folder of masks.

Masks hold the number of the class of each pixel, 255 where nothing is known;
--remap and --colours write such masks where yours are others.
"""

import argparse
import os
import sys
from pathlib import Path

from rich.progress import track

import mmfaseg  # noqa: F401  makes mmseg importable on this stack

TOOLS = Path(__file__).resolve().parent
CONFIGS = TOOLS.parent / 'configs'
MODELS = {
    'small': 'faseg_r18_study',
    **{
        name: f'faseg_{name}'
        for name in ('r50', 'swin-t', 'swin-s', 'swin-b', 'swin-l')
    },
}
TEMPLATE = '''\
"""{title}: written by tools/new_dataset.py, to be changed at will."""

_base_ = [
    '{base}/models/{model}.py',
    '{base}/schedules/schedule_160k.py',
    '{base}/default_runtime.py',
]

crop_size = {crop}
metainfo = dict(
    classes={classes},
    palette={palette},
)
max_iters = {iterations}

train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations'),
    dict(
        type='RandomResize',
        scale={scale},
        ratio_range=(0.5, 2.0),
        keep_ratio=True,
    ),
    dict(type='RandomCrop', crop_size=crop_size, cat_max_ratio=0.75),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PhotoMetricDistortion'),
    dict(type='PackSegInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations'),
    dict(type='PackSegInputs'),
]
data = dict(
    type='BaseSegDataset',
    data_root={root!r},
    data_prefix=dict(
        img_path={images!r},
        seg_map_path={masks!r},
    ),
    img_suffix={img_suffix!r},
    seg_map_suffix={seg_map_suffix!r},
    metainfo=metainfo,
)
train_dataloader = dict(
    batch_size={batch},
    num_workers=2,
    persistent_workers=True,
    sampler=dict(type='InfiniteSampler', shuffle=True),
    dataset=dict(
        data, ann_file='splits/train.txt', pipeline=train_pipeline
    ),
)
val_dataloader = dict(
    batch_size=1,
    num_workers=2,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        data,
        ann_file='splits/val.txt',
        pipeline=test_pipeline,
        test_mode=True,
    ),
)
test_dataloader = val_dataloader
val_evaluator = dict(type='IoUMetric', iou_metrics=['mIoU'])
test_evaluator = val_evaluator

data_preprocessor = dict(size=crop_size)
model = dict(
    data_preprocessor=data_preprocessor,
    decode_head=dict(num_classes={count}),{extra}
)
{schedule}
param_scheduler = [
    dict(type='LinearLR', start_factor=0.1, end=30, by_epoch=False),
    dict(type='PolyLR', power=0.9, eta_min=0, end=max_iters, by_epoch=False),
]
train_cfg = dict(max_iters=max_iters, val_interval={interval})
default_hooks = dict(checkpoint=dict(interval={interval}))
auto_scale_lr = dict(base_batch_size={batch})
'''
# a backbone from random weights learns like the rest
SMALL_SCHEDULE = """
optim_wrapper = dict(
    optimizer=dict(lr=3e-3),
    paramwise_cfg=dict(custom_keys=dict(backbone=dict(lr_mult=1.0))),
)"""


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Return the parsed command line."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument('images', type=Path, help='folder of the pictures')
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
        help='of the pictures, where there are no folders train and val '
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
        choices=list(MODELS),
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
        ValueError: if pictures and masks do not fit, or labels are no
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
    strange = [x for x in labels if x >= len(args.classes) and x != IGNORED]
    if strange and colours is None:
        raise ValueError(
            f'the masks hold the labels {labels}, and there are '
            f'{len(args.classes)} --classes: name all of them, or --remap '
            'some'
        )
    if labels and labels[-1] == IGNORED and labels[:-1] in ([0], []):
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


def write_config(args: argparse.Namespace, pairing) -> None:
    """Write the config."""
    from mmfaseg.datasets.new_dataset import usual_size
    from mmfaseg.visualization import make_palette

    height, width = usual_size(pairing)
    side = max(64, min(512, round(min(height, width) / 32) * 32))
    count = len(args.classes)
    small = args.model == 'small'
    text = TEMPLATE.format(
        title=args.config.stem,
        base=os.path.relpath(CONFIGS / '_base_', args.config.parent),
        model=MODELS[args.model],
        crop=(side, side),
        classes=tuple(args.classes),
        palette=make_palette(count),
        iterations=args.iterations,
        scale=(width, height),
        root=str(args.out),
        images=os.path.abspath(pairing.images),
        masks=os.path.abspath(pairing.masks),
        img_suffix=pairing.img_suffix,
        seg_map_suffix=pairing.seg_map_suffix,
        batch=args.batch,
        count=count,
        extra=f'\n    auxiliary_head=dict(num_classes={count}),'
        if small
        else '',
        schedule=SMALL_SCHEDULE if small else '',
        interval=max(args.iterations // 20, 1),
    )
    args.config.parent.mkdir(parents=True, exist_ok=True)
    args.config.write_text(text)


def main(argv: list[str] | None = None) -> None:
    """Write the config, look at what it reads, and say what is next."""
    from mmengine.config import Config

    from mmfaseg.datasets.doctor import check_dataset

    args = parse_args(argv)
    if args.out is None:
        args.out = Path('data') / args.config.stem
    try:
        if args.config.exists():
            raise ValueError(
                f'{args.config} is there already: delete it, or '
                'choose another name'
            )
        if len(args.classes) < 2:
            raise ValueError(
                'two classes at least: name the background as well'
            )
        pairing = prepare_data(args)
        write_config(args, pairing)
    except (ValueError, OSError) as error:
        sys.exit(f'error: {error}')
    for split, names in pairing.names.items():
        print(f'{split}: {len(names)} pictures')
    examination = check_dataset(Config.fromfile(args.config), limit=50)
    for finding in examination.findings:
        print(finding)
    python, tools = map(os.path.relpath, (sys.executable, TOOLS))
    check = f'{tools}/analysis_tools/check_dataset.py'
    print(f"""wrote {args.config}; next:
  {python} {check} {args.config} --out classes.png
  {python} {tools}/train.py {args.config}""")
    sys.exit(1 if examination.errors else 0)


if __name__ == '__main__':
    main()
