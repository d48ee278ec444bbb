"""The two figures of a trained network: predictions.png and focus.png."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import mmcv
import numpy as np
import torch
from mmengine.dataset import pseudo_collate
from mmengine.logging import print_log

from .decoder_trace import can_trace
from .focus import draw_focus
from .input_image import inputs_to_image
from .instances import draw_objects
from .objects import ObjectImage, Objects
from .predictions import LabelledImage, draw_predictions
from .sheet import make_palette, save_figure
from .tracing import TracedImage, trace_item

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from mmdet.structures import DetDataSample
    from mmengine.dataset import BaseDataset
    from mmengine.model import BaseModel

NUM_IMAGES = 6
INSTANCE_OFFSET = 1000  # mmdet's, between segments of one class


def spread_indices(length: int, count: int = NUM_IMAGES) -> list[int]:
    """Returns at most ``count`` numbers spread evenly over 0..length-1.

    Raises:
        ValueError: If ``length`` or ``count`` is not positive.
    """
    if length < 1 or count < 1:
        raise ValueError(
            f'cannot choose {count} of {length} images; both numbers have '
            'to be positive'
        )
    spread = np.linspace(0, length - 1, min(length, count))
    return spread.round().astype(int).tolist()


@torch.no_grad()
def write_report(
    model: BaseModel,
    dataset: BaseDataset,
    out_dir: str | Path,
    indices: Sequence[int] | None = None,
) -> list[Path]:
    """Draws predictions of several images and the focus of one of them.

    A detector's predictions are drawn as objects. The image with the most
    classes, or objects, is taken for the focus. A network whose head has no
    ``trace`` gets the predictions alone.

    Args:
        model (BaseModel): The trained network, of mmseg or a detector of
            mmdet with a ``panoptic_head``; left in eval mode.
        dataset (BaseDataset): With a test pipeline and annotations.
        out_dir (str | Path): Folder of the figures.
        indices (Sequence[int], optional): Which images of the data set;
            six spread evenly over it by default.

    Returns:
        list[Path]: The files written.

    Raises:
        IndexError: If an index is not in the data set.
    """
    if indices is None:
        indices = spread_indices(len(dataset))
    for index in indices:
        if not 0 <= index < len(dataset):
            raise IndexError(
                f'image {index} is not in a data set of {len(dataset)}; '
                f'choose from 0..{len(dataset) - 1}'
            )
    model.eval()
    items = [dataset[index] for index in indices]
    is_detector = hasattr(model, 'panoptic_head')
    head = model.panoptic_head if is_detector else model.decode_head
    draw = _draw_objects if is_detector else _draw_labels
    figure, variety = draw(model, items, dataset)
    written = [save_figure(figure, Path(out_dir) / 'predictions.png')]
    if not can_trace(head):
        print_log(
            f'{type(head).__name__} has no FASegDecoder to trace: focus.png '
            'is not drawn',
            logger='current',
        )
        return written

    figure = draw_item_focus(
        model,
        items[int(np.argmax(variety))],
        dataset.metainfo['classes'],
        dataset_palette(dataset),
    )
    written.append(save_figure(figure, Path(out_dir) / 'focus.png'))
    return written


@torch.no_grad()
def draw_item_focus(
    model: BaseModel,
    item: dict,
    classes: Sequence[str],
    palette: Sequence[Sequence[int]],
) -> Figure:
    """Draws where a network looks in one item of a test pipeline.

    Args:
        model (BaseModel): see :func:`write_report`; its head has ``trace``.
        item (dict): what the pipeline gives for one image.
        classes (Sequence[str]): names of the classes.
        palette (Sequence[Sequence[int]]): their colours, RGB in 0..255.
    """
    return draw_traced_focus(trace_item(model, item), classes, palette)


def draw_traced_focus(
    traced: TracedImage,
    classes: Sequence[str],
    palette: Sequence[Sequence[int]],
) -> Figure:
    """Draws the same of an image that was looked at already."""
    return draw_focus(
        traced.output,
        traced.image,
        classes,
        palette,
        min_score=traced.min_score,
    )


def _draw_labels(
    model: BaseModel, items: Sequence[dict], dataset: BaseDataset
) -> tuple[Figure, list[int]]:
    """Draws label maps; returns how many classes each image has."""
    images = []
    for item in items:
        sample = model.test_step(pseudo_collate([item]))[0]
        ground_truth = sample.gt_sem_seg.data.squeeze(0).cpu().numpy()
        images.append(
            LabelledImage(
                image=inputs_to_image(item['inputs'], ground_truth.shape),
                ground_truth=ground_truth,
                prediction=sample.pred_sem_seg.data.squeeze(0).cpu().numpy(),
            )
        )
    figure = draw_predictions(
        images,
        dataset.metainfo['classes'],
        dataset_palette(dataset),
        dataset.ignore_index,
    )
    return figure, [len(np.unique(each.ground_truth)) for each in images]


def _draw_objects(
    model: BaseModel, items: Sequence[dict], dataset: BaseDataset
) -> tuple[Figure, list[int]]:
    """Draws objects; returns how many of them each image has."""
    images = []
    for item in items:
        sample = model.test_step(pseudo_collate([item]))[0]
        is_panoptic = 'pred_panoptic_seg' in sample
        objects = _panoptic_objects if is_panoptic else _instances
        ground_truth, prediction = objects(sample, dataset)
        image = inputs_to_image(item['inputs'], sample.ori_shape)
        images.append(ObjectImage(image, ground_truth, prediction))
    figure = draw_objects(images, dataset.metainfo['classes'])
    return figure, [len(each.ground_truth.labels) for each in images]


def _instances(
    sample: DetDataSample, dataset: BaseDataset
) -> tuple[Objects, Objects]:
    """Returns the true and the predicted objects of an image."""
    ground_truth, found = sample.gt_instances, sample.pred_instances
    masks = (
        ground_truth.masks.resize(sample.ori_shape).to_ndarray().astype(bool)
    )
    return Objects(ground_truth.labels.cpu().numpy(), masks), Objects(
        found.labels.cpu().numpy(),
        found.masks.cpu().numpy(),
        found.scores.cpu().numpy(),
    )


def _panoptic_objects(
    sample: DetDataSample, dataset: BaseDataset
) -> tuple[Objects, Objects]:
    """Returns the segments of an image, things and stuff."""
    things = sample.gt_instances
    masks = things.masks.resize(sample.ori_shape).to_ndarray().astype(bool)
    labels = things.labels.cpu().numpy()
    stuff = sample.gt_sem_seg.sem_seg[0].cpu().numpy().astype(np.uint8)
    stuff = mmcv.imresize(
        stuff, sample.ori_shape[::-1], interpolation='nearest'
    )
    count = len(dataset.metainfo['classes'])
    first = len(dataset.metainfo['thing_classes'])
    names = [x for x in np.unique(stuff) if first <= x < count]
    ground_truth = Objects(
        np.concatenate([labels, names]).astype(int),
        np.concatenate([masks, *[[stuff == x] for x in names]]),
    )
    panoptic = sample.pred_panoptic_seg.sem_seg[0].cpu().numpy()
    ids = [x for x in np.unique(panoptic) if x % INSTANCE_OFFSET < count]
    found = np.zeros((len(ids), *panoptic.shape), bool)
    for mask, number in zip(found, ids, strict=True):
        mask[:] = panoptic == number
    return ground_truth, Objects(np.array(ids, int) % INSTANCE_OFFSET, found)


def dataset_palette(dataset: BaseDataset) -> list:
    """Returns a colour per class: the data set's, if it has so many."""
    count = len(dataset.metainfo['classes'])
    palette = list(dataset.metainfo.get('palette', ()))
    return palette if len(palette) == count else make_palette(count)
