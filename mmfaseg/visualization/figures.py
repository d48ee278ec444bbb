"""Figures of a trained network: predictions.png and focus.png."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import mmcv
import numpy as np
import torch
from mmengine.dataset import pseudo_collate
from mmengine.logging import print_log

from ..utils.dataset_wrappers import ignored_label
from .canvas import make_palette, save_figure
from .decoder_trace import find_traceable_head
from .explorer import explore
from .focus import draw_focus
from .input_image import inputs_to_image
from .objects import Objects, draw_objects
from .predictions import draw_predictions

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from mmdet.structures import DetDataSample
    from mmengine.dataset import BaseDataset
    from mmengine.model import BaseModel

NUM_IMAGES = 6
INSTANCE_OFFSET = 1000  # as in mmdet: label + INSTANCE_OFFSET * instance


@torch.no_grad()
def write_figures(
    model: BaseModel,
    dataset: BaseDataset,
    out_dir: str | Path,
    indices: Sequence[int] | None = None,
) -> list[Path]:
    """Draws predictions of several images and the focus in one of them.

    The focus is drawn in the image with the most classes or objects, for the
    queries whose masks match the ground truth best. It is skipped if the head
    has no :class:`FASegDecoder`.

    Args:
        model (BaseModel): Trained segmentor, or detector of mmdet with a
            ``panoptic_head``; set to evaluation mode.
        dataset (BaseDataset): With a test pipeline and annotations.
        out_dir (str | Path): Folder of the figures.
        indices (Sequence[int], optional): Images of the dataset; by default
            six, evenly spaced.

    Returns:
        list[Path]: The files written.

    Raises:
        ValueError: If an index is out of range or the images have no labels.
    """
    if indices is None:
        length = len(dataset)
        spread = np.linspace(0, length - 1, min(length, NUM_IMAGES))
        indices = spread.round().astype(int).tolist()
    for index in indices:
        if not 0 <= index < len(dataset):
            raise ValueError(
                f'index {index} is out of range for a dataset of '
                f'{len(dataset)} images; choose from 0..{len(dataset) - 1}'
            )
    model.eval()
    items = [dataset[index] for index in indices]
    classes, palette = dataset.metainfo['classes'], dataset_palette(dataset)
    is_detector = hasattr(model, 'panoptic_head')
    draw = _draw_objects if is_detector else _draw_labels
    figure, segments = draw(model, items, dataset)
    written = [save_figure(figure, Path(out_dir) / 'predictions.png')]
    try:
        find_traceable_head(model)
    except ValueError as error:
        print_log(f'focus.png is not drawn: {error}', logger='current')
        return written
    richest = int(np.argmax([len(x.labels) for x in segments]))
    view = explore(model, items[richest], classes, palette)
    figure = draw_focus(view, ground_truth=segments[richest])
    written.append(save_figure(figure, Path(out_dir) / 'focus.png'))
    return written


def _draw_labels(
    model: BaseModel, items: Sequence[dict], dataset: BaseDataset
) -> tuple[Figure, list[Objects]]:
    """Draws label maps; also returns the ground truth segments."""
    images = []
    for item in items:
        (sample,) = model.test_step(pseudo_collate([item]))
        if 'gt_sem_seg' not in sample:
            raise ValueError(
                'the images have no labels: add LoadAnnotations to the '
                'pipeline of the dataset'
            )
        maps = [
            x.data.squeeze(0).cpu().numpy()
            for x in (sample.gt_sem_seg, sample.pred_sem_seg)
        ]
        image = inputs_to_image(item['inputs'], maps[0].shape)
        images.append((image, maps[0], maps[1]))
    ignored = ignored_label(dataset)
    figure = draw_predictions(
        images, dataset.metainfo['classes'], dataset_palette(dataset), ignored
    )
    return figure, [split_labels(maps[0], ignored) for _, *maps in images]


def split_labels(
    label_map: np.ndarray, ignored: int | Sequence[int]
) -> Objects:
    """Returns one segment for each label, without the ignored ones."""
    labels = np.setdiff1d(label_map, ignored)
    return Objects(labels, label_map == labels[:, None, None])


def _draw_objects(
    model: BaseModel, items: Sequence[dict], dataset: BaseDataset
) -> tuple[Figure, list[Objects]]:
    """Draws objects; also returns those of the ground truth."""
    images = []
    for item in items:
        (sample,) = model.test_step(pseudo_collate([item]))
        is_panoptic = 'pred_panoptic_seg' in sample
        objects = _panoptic_objects if is_panoptic else _instances
        image = inputs_to_image(item['inputs'], sample.ori_shape)
        images.append((image, *objects(sample, dataset)))
    figure = draw_objects(images, dataset.metainfo['classes'])
    return figure, [ground_truth for _, ground_truth, _ in images]


def _ground_truth_instances(sample: DetDataSample) -> Objects:
    objects = sample.gt_instances
    masks = objects.masks.resize(sample.ori_shape).to_ndarray().astype(bool)
    return Objects(objects.labels.cpu().numpy(), masks)


def _instances(
    sample: DetDataSample, dataset: BaseDataset
) -> tuple[Objects, Objects]:
    """Returns the ground truth and predicted objects of an image."""
    found = sample.pred_instances
    return _ground_truth_instances(sample), Objects(
        found.labels.cpu().numpy(),
        found.masks.cpu().numpy(),
        found.scores.cpu().numpy(),
    )


def _panoptic_objects(
    sample: DetDataSample, dataset: BaseDataset
) -> tuple[Objects, Objects]:
    """Returns the ground truth and predicted segments, things and stuff."""
    count = len(dataset.metainfo['classes'])
    num_things = len(dataset.metainfo['thing_classes'])
    things = _ground_truth_instances(sample)
    label_map = mmcv.imresize(
        sample.gt_sem_seg.sem_seg[0].cpu().numpy().astype(np.uint8),
        sample.ori_shape[::-1],
        interpolation='nearest',
    )
    ignored = [x for x in np.unique(label_map) if not num_things <= x < count]
    stuff = split_labels(label_map, ignored)
    ground_truth = Objects(
        np.concatenate([things.labels, stuff.labels]).astype(int),
        np.concatenate([things.masks, stuff.masks]),
    )
    panoptic = sample.pred_panoptic_seg.sem_seg[0].cpu().numpy()
    ids = np.unique(panoptic)
    ids = ids[ids % INSTANCE_OFFSET < count]
    found = Objects(ids % INSTANCE_OFFSET, panoptic == ids[:, None, None])
    return ground_truth, found


def dataset_palette(dataset: BaseDataset) -> list:
    """Returns the palette of a dataset, or one generated for its classes."""
    count = len(dataset.metainfo['classes'])
    palette = list(dataset.metainfo.get('palette', ()))
    return palette if len(palette) == count else make_palette(count)
