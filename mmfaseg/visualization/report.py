"""The two pictures of a trained network: predictions.png and focus.png."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from mmengine.dataset import pseudo_collate
from mmengine.logging import print_log

from .focus import draw_focus
from .picture import network_picture
from .predictions import LabelledPicture, draw_predictions
from .sheet import save_figure

if TYPE_CHECKING:
    from mmseg.datasets import BaseSegDataset
    from mmseg.models import EncoderDecoder

NUM_PICTURES = 6


def spread_indices(length: int, count: int = NUM_PICTURES) -> list[int]:
    """Returns at most ``count`` numbers spread evenly over 0..length-1.

    Raises:
        ValueError: If ``length`` or ``count`` is not positive.
    """
    if length < 1 or count < 1:
        raise ValueError(
            f'cannot choose {count} of {length} pictures; both numbers have '
            'to be positive'
        )
    spread = np.linspace(0, length - 1, min(length, count))
    return spread.round().astype(int).tolist()


@torch.no_grad()
def write_report(
    model: EncoderDecoder,
    dataset: BaseSegDataset,
    out_dir: str | Path,
    indices: Sequence[int] | None = None,
) -> list[Path]:
    """Draws predictions of several pictures and the focus of one of them.

    The picture with the most classes is taken for the focus. A network whose
    head has no ``trace`` gets the predictions alone.

    Args:
        model (EncoderDecoder): The trained network; left in eval mode.
        dataset (BaseSegDataset): With a test pipeline and annotations.
        out_dir (str | Path): Folder of the pictures.
        indices (Sequence[int], optional): Which pictures of the data set;
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
                f'picture {index} is not in a data set of {len(dataset)}; '
                f'choose from 0..{len(dataset) - 1}'
            )
    model.eval()
    classes = dataset.metainfo['classes']
    palette = dataset.metainfo['palette']
    items = [dataset[index] for index in indices]
    pictures = [_predict(model, item) for item in items]
    figure = draw_predictions(pictures, classes, palette, dataset.ignore_index)
    written = [save_figure(figure, Path(out_dir) / 'predictions.png')]
    if not hasattr(model.decode_head, 'trace'):
        print_log(
            f'{type(model.decode_head).__name__} has no trace: focus.png is '
            'drawn for FASegHead only',
            logger='current',
        )
        return written

    variety = [len(np.unique(each.truth)) for each in pictures]
    item = items[int(np.argmax(variety))]
    batch = model.data_preprocessor(pseudo_collate([item]), False)
    output = model.decode_head.trace(model.extract_feat(batch['inputs']))
    figure = draw_focus(
        output, network_picture(item['inputs']), classes, palette
    )
    written.append(save_figure(figure, Path(out_dir) / 'focus.png'))
    return written


def _predict(model: EncoderDecoder, item: dict) -> LabelledPicture:
    """Labels one item of the data set, at the size of its annotation."""
    sample = model.test_step(pseudo_collate([item]))[0]
    truth = sample.gt_sem_seg.data.squeeze(0).cpu().numpy()
    return LabelledPicture(
        picture=network_picture(item['inputs'], truth.shape),
        truth=truth,
        prediction=sample.pred_sem_seg.data.squeeze(0).cpu().numpy(),
    )
