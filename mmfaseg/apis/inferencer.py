"""Semantic segmentation of images, folders, videos and cameras.

Shapes:
    H, W: height and width of an image in pixels.
    C: number of channels of the network input, usually 3.
    K: number of classes.
"""

from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby, islice
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from mmcv.transforms import Compose
from mmengine.dataset import pseudo_collate
from mmengine.device import get_device
from mmengine.registry import init_default_scope
from rich.progress import track

from ..utils.type_name import type_name
from ..visualization import draw_focus, image_to_rgb
from ..visualization.canvas import blend
from ..visualization.decoder_trace import find_traceable_head
from ..visualization.explorer import MAX_QUERIES, Exploration, explore
from .image_loader import ImageLoader, plain_test_pipeline
from .model import load_model
from .outputs import Prediction, Writer, result_folders
from .sources import Frame, Sources, count_frames, read_frames

OPACITY = 0.55


class FASegInferencer:
    """Segments images, folders, videos and camera streams.

    ``FASegInferencer('work_dirs/mine')('images/', out_dir='found')``

    Args:
        model (str | Path): Config file, name of a config or work dir.
        weights (str | Path, optional): Checkpoint; by default that of the
            work dir.
        device (str, optional): By default the GPU, if available.
        cfg_options (dict, optional): Settings that override the config.

    Raises:
        FileNotFoundError: If there is no such config or checkpoint.
        ValueError: If the config does not define a semantic segmentor.
    """

    def __init__(
        self,
        model: str | Path,
        weights: str | Path | None = None,
        device: str | None = None,
        cfg_options: dict[str, Any] | None = None,
    ) -> None:
        device = device or get_device()
        self.model = load_model(model, weights, device, cfg_options)
        self.classes: list[str] = self.model.dataset_meta['classes']
        self.palette: list = self.model.dataset_meta['palette']
        init_default_scope(self.model.cfg.get('default_scope', 'mmseg'))
        self.loader = ImageLoader.from_config(self.model.cfg)
        self._pipeline = Compose(_array_pipeline(self.model.cfg))

    def __call__(
        self,
        inputs: Sources,
        batch_size: int = 1,
        out_dir: str | Path | None = None,
        overlay: bool = False,
        probabilities: bool = False,
        focus: bool = False,
        progress: bool = False,
    ) -> list[Prediction]:
        """Returns the predictions for all images as a list.

        The arguments are those of :meth:`iterate`, which is better suited to
        long videos and cameras.
        """
        options = overlay, probabilities, focus, progress
        return list(self.iterate(inputs, batch_size, out_dir, *options))

    def iterate(
        self,
        inputs: Sources,
        batch_size: int = 1,
        out_dir: str | Path | None = None,
        overlay: bool = False,
        probabilities: bool = False,
        focus: bool = False,
        progress: bool = False,
    ) -> Iterator[Prediction]:
        """Yields the predictions one by one.

        Args:
            inputs (Sources): See :func:`read_frames`.
            batch_size (int): Maximum number of images per batch; a batch
                holds consecutive images of equal size.
            out_dir (str | Path, optional): Output folder: ``labels/`` as PNG
                with a palette and, on request, ``overlay/``,
                ``probabilities/`` (npz) and ``focus/``. Overlays of a video
                are written as a video. Files in these folders are not read
                from input folders and patterns.
            overlay (bool): Also return images with colored classes.
            probabilities (bool): Also return class probabilities.
            focus (bool): Also draw where the queries attend.
            progress (bool): Show a progress bar.

        Raises:
            ValueError: If ``batch_size`` is not positive, a source cannot be
                read, or ``focus`` is not supported by the head.
        """
        if batch_size < 1:
            raise ValueError(f'batch_size must be at least 1: {batch_size}')
        if focus:
            find_traceable_head(self.model)  # raises if there is none
        earlier = result_folders(out_dir) if out_dir else []
        batches = self._batches(inputs, batch_size, earlier)
        pairs = self._predict(batches, overlay, probabilities, focus)
        if progress:
            count = count_frames(inputs, self.loader, earlier)
            pairs = track(pairs, 'images', count)
        writer = Writer(out_dir, self.palette) if out_dir else None
        try:
            for frame, found in pairs:
                if writer is not None:
                    writer.write(frame, found)
                yield found
        finally:
            if writer is not None:
                writer.close()

    def explore(
        self, source: str | Path | np.ndarray, max_queries: int = MAX_QUERIES
    ) -> Exploration:
        """Returns attention and predictions of every layer for one image.

        Args:
            source (str | Path | np.ndarray): Image file, or array of shape
                (H, W, C), in BGR for color.
            max_queries (int): Maximum number of queries; those with the most
                pixels are kept.

        Raises:
            FileNotFoundError: If there is no such file.
            ValueError: If it is not an image, has another number of channels
                than the model, or if the head has no FASegDecoder.
        """
        item = self._prepare(next(read_frames(source, self.loader)))
        return self._explore(item, max_queries)

    def _explore(
        self, item: dict, max_queries: int = MAX_QUERIES
    ) -> Exploration:
        return explore(
            self.model, item, self.classes, self.palette, max_queries
        )

    def _prepare(self, frame: Frame) -> dict:
        item = self._pipeline(dict(img=frame.image, img_path=frame.name))
        self.loader.check_input(item['inputs'].shape[0], frame.name)
        return item

    def _batches(
        self, inputs: Sources, size: int, exclude: Sequence[Path]
    ) -> Iterator[list[tuple[Frame, dict]]]:
        """Yields consecutive images whose network inputs have equal size."""
        frames = read_frames(inputs, self.loader, exclude)
        pairs = ((frame, self._prepare(frame)) for frame in frames)
        for _, group in groupby(pairs, lambda x: x[1]['inputs'].shape):
            while batch := list(islice(group, size)):
                yield batch

    @torch.no_grad()
    def _predict(
        self,
        batches: Iterable[list[tuple[Frame, dict]]],
        overlay: bool,
        probabilities: bool,
        focus: bool,
    ) -> Iterable[tuple[Frame, Prediction]]:
        head = self.model.decode_head
        for batch in batches:
            items = [item for _, item in batch]
            with patch.dict(self.model.test_cfg, return_logits=probabilities):
                samples = self.model.test_step(pseudo_collate(items))
            for (frame, item), sample in zip(batch, samples, strict=True):
                labels = sample.pred_sem_seg.data[0].long().cpu().numpy()
                found = Prediction(
                    frame.name,
                    labels,
                    self._overlay(frame.image, labels) if overlay else None,
                    _probabilities(head, sample) if probabilities else None,
                    draw_focus(self._explore(item)) if focus else None,
                )
                yield frame, found

    def _overlay(self, image: np.ndarray, labels: np.ndarray) -> np.ndarray:
        return blend(
            image_to_rgb(image), np.asarray(self.palette)[labels], OPACITY
        )


def _array_pipeline(cfg: Any) -> list:
    """Returns the test pipeline for images in memory."""
    steps = [
        step
        for step in plain_test_pipeline(cfg)
        if not type_name(step).startswith(('Load', 'Generate'))
    ]
    return [dict(type='LoadImageFromNDArray'), *steps]


def _probabilities(head: Any, sample: Any) -> np.ndarray:
    from mmseg.models.decode_heads.decode_head import BaseDecodeHead

    scores = sample.seg_logits.data.float()
    if len(scores) == 1:  # sigmoid of the second class, from mmseg
        shares = torch.cat([1 - scores, scores])
    elif isinstance(head, BaseDecodeHead):
        shares = scores.softmax(0)
    else:  # sums of probabilities over the queries
        shares = scores / scores.sum(0, keepdim=True).clamp(min=1e-12)
    return shares.cpu().numpy()
