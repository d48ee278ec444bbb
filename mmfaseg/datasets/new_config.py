"""The text of a config for a data set of one's own."""

import os
from pathlib import Path

from ..visualization import make_palette
from .new_dataset import Pairing, median_size

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
    'mmfaseg::_base_/models/{model}.py',
    'mmfaseg::_base_/schedules/schedule_160k.py',
    'mmfaseg::_base_/default_runtime.py',
]

crop_size = {crop}
metainfo = dict(
    classes={classes},
    palette={palette},
)
max_iters = {iterations}

# on_error='skip' loads another image in place of an invalid one
train_pipeline = [
    dict(type='mmfaseg.LoadCheckedImage', on_error='raise'),
    dict(type='mmfaseg.LoadCheckedAnnotations', on_error='raise'),
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


def config_text(
    path: Path,
    pairing: Pairing,
    classes: list[str],
    lists: Path,
    model: str,
    iterations: int,
    batch: int,
) -> str:
    """Returns the config.

    Args:
        path (Path): where it will be.
        pairing (Pairing): pictures and masks.
        classes (list[str]): names, in the order of their numbers.
        lists (Path): folder that holds ``splits/``.
        model (str): of ``MODELS``.
        iterations (int): of training.
        batch (int): pictures at once.
    """
    height, width = median_size(pairing)
    side = max(64, min(512, round(min(height, width) / 32) * 32))
    count = len(classes)
    small = model == 'small'
    return TEMPLATE.format(
        title=path.stem,
        model=MODELS[model],
        crop=(side, side),
        classes=tuple(classes),
        palette=make_palette(count),
        iterations=iterations,
        scale=(width, height),
        root=os.path.abspath(lists),
        images=os.path.abspath(pairing.images),
        masks=os.path.abspath(pairing.masks),
        img_suffix=pairing.img_suffix,
        seg_map_suffix=pairing.seg_map_suffix,
        batch=batch,
        count=count,
        extra=f'\n    auxiliary_head=dict(num_classes={count}),'
        if small
        else '',
        schedule=SMALL_SCHEDULE if small else '',
        interval=max(iterations // 20, 1),
    )
