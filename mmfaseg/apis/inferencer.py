"""From images to labels, overlays, scores and images of the focus.

Shapes:
    H, W: height and width of an image in pixels.
    K: number of classes.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmcv.transforms import Compose
from mmengine.dataset import pseudo_collate
from mmengine.device import get_device
from mmengine.registry import init_default_scope
from rich.progress import Progress

from ..utils.type_name import type_name
from ..visualization import draw_item_focus
from ..visualization.decoder_trace import can_trace
from ..visualization.explorer import MAX_QUERIES, Exploration, explore
from .model import load_model
from .outputs import Writer
from .sources import Frame, Sources, count_frames, read_frames

OPACITY = 0.55


@dataclass(frozen=True)
class Prediction:
    """What was found in one image.

    Attributes:
        name (str): of the image.
        labels (np.ndarray): best class of each pixel, int64, shape (H, W).
        overlay (np.ndarray | None): the image with the colours of the
            classes, uint8, shape (H, W, 3), RGB; on request.
        probabilities (np.ndarray | None): of each class, float32, shape
            (K, H, W), sums to 1; on request. Of mask classification the share
            in the scores of a pixel, which is not calibrated.
        focus (Figure | None): where the queries look; on request.
    """

    name: str
    labels: np.ndarray
    overlay: np.ndarray | None = None
    probabilities: np.ndarray | None = None
    focus: Any = None


class FASegInferencer:
    """A trained network for images, folders, videos and cameras.

    ``FASegInferencer('work_dirs/mine')('images/', out_dir='found')``

    Args:
        model (str | Path): config file, name of a config or work dir.
        weights (str | Path, optional): checkpoint; a work dir has its own.
        device (str, optional): by default the GPU, if there is one.
        cfg_options (dict, optional): settings that replace those of the
            config.

    Raises:
        FileNotFoundError: if there is no such config or checkpoint.
        ValueError: if the network is no semantic segmentor.
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
        self._prepare = Compose(_steps(self.model.cfg))

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
        """Returns what is found in all images; :meth:`iterate` in a list.

        For long videos, and for cameras, take :meth:`iterate`.
        """
        found = self.iterate(
            inputs,
            batch_size,
            out_dir,
            overlay,
            probabilities,
            focus,
            progress,
        )
        return list(found)

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
        """Yields what is found in one image after the other.

        Args:
            inputs (Sources): see :func:`read_frames`.
            batch_size (int): images at once; only neighbours of one size
                go together.
            out_dir (str | Path, optional): where files go: ``labels/``, as
                PNG with a palette, and ``overlay/``, ``probabilities/`` (npz)
                and ``focus/`` on request; overlays of a video are a video.
            overlay (bool): also the image with coloured classes.
            probabilities (bool): also those of all classes.
            focus (bool): also where the queries look.
            progress (bool): show a bar.

        Raises:
            ValueError: if ``batch_size`` is not positive, a source cannot be
                read, or focus is asked of a head that has none.
        """
        if batch_size < 1:
            raise ValueError(f'batch_size must be at least 1: {batch_size}')
        if focus and not can_trace(self.model.decode_head):
            raise ValueError(
                f'{type(self.model.decode_head).__name__} has no FASegDecoder '
                'to trace: use focus=False'
            )
        wanted = (overlay, probabilities, focus)
        total = count_frames(inputs)
        writer = Writer(out_dir, self.palette) if out_dir else None
        with Progress(disable=not progress) as bar:
            task = bar.add_task('images', total=total)
            try:
                for frames, items in self._batches(inputs, batch_size):
                    for frame, found in zip(
                        frames,
                        self._predict(frames, items, *wanted),
                        strict=True,
                    ):
                        if writer is not None:
                            writer.write(frame, found)
                        bar.advance(task)
                        yield found
            finally:
                if writer is not None:
                    writer.close()

    def explore(
        self, source: str | Path | np.ndarray, max_queries: int = MAX_QUERIES
    ) -> Exploration:
        """Returns how the queries of one image came to their answers.

        Args:
            source (str | Path | np.ndarray): a file, or an array (H, W, 3) in
                BGR.
            max_queries (int): those that answer for most pixels.

        Raises:
            FileNotFoundError: if there is no such file.
            ValueError: if it is no image, or the head has no trace.
        """
        frame = next(read_frames(source))
        item = self._prepare(dict(img=frame.image, img_path=frame.name))
        return explore(
            self.model, item, self.classes, self.palette, max_queries
        )

    def _batches(
        self, inputs: Sources, size: int
    ) -> Iterator[tuple[list[Frame], list[dict]]]:
        """Yields neighbours whose network inputs have one size."""
        frames: list[Frame] = []
        items: list[dict] = []
        for frame in read_frames(inputs):
            item = self._prepare(dict(img=frame.image, img_path=frame.name))
            same = not items or (
                item['inputs'].shape == items[0]['inputs'].shape
            )
            if len(items) == size or not same:
                yield frames, items
                frames, items = [], []
            frames.append(frame)
            items.append(item)
        if items:
            yield frames, items

    @torch.no_grad()
    def _predict(
        self,
        frames: Sequence[Frame],
        items: Sequence[dict],
        overlay: bool,
        probabilities: bool,
        focus: bool,
    ) -> Iterator[Prediction]:
        head, settings = self.model.decode_head, self.model.test_cfg
        before = dict(settings)
        # without scores the memory is smaller, if the head supports it
        settings['return_logits'] = (
            probabilities
            or not hasattr(head, 'predict_labels')
            or self.model.align_corners
        )
        try:
            samples = self.model.test_step(pseudo_collate(list(items)))
        finally:
            settings.clear()
            settings.update(before)
        for frame, item, sample in zip(frames, items, samples, strict=True):
            labels = sample.pred_sem_seg.data[0].to(torch.int64).cpu().numpy()
            yield Prediction(
                frame.name,
                labels,
                self._overlay(frame, labels) if overlay else None,
                _probabilities(head, sample) if probabilities else None,
                draw_item_focus(self.model, item, self.classes, self.palette)
                if focus
                else None,
            )

    def _overlay(self, frame: Frame, labels: np.ndarray) -> np.ndarray:
        colours = np.asarray(self.palette, np.float32)[labels]
        image = frame.image[..., ::-1]
        mixed = (1 - OPACITY) * image + OPACITY * colours
        return mixed.round().astype(np.uint8)


def _steps(cfg: Any) -> list:
    """Returns the test pipeline for images that are in memory."""
    pipeline = cfg.test_dataloader.dataset.pipeline
    if any(type_name(step) == 'TestTimeAug' for step in pipeline):
        pipeline = cfg.test_pipeline  # before a test with augmentation
    steps = [
        step
        for step in pipeline
        if not type_name(step).startswith(('Load', 'Generate'))
    ]
    return [dict(type='LoadImageFromNDArray'), *steps]


def _probabilities(head: Any, sample: Any) -> np.ndarray:
    from mmseg.models.decode_heads.decode_head import BaseDecodeHead

    scores = sample.seg_logits.data.float()
    if len(scores) == 1:  # the second class; mmseg took the sigmoid already
        shares = torch.cat([1 - scores, scores])
    elif isinstance(head, BaseDecodeHead):
        shares = scores.softmax(0)
    else:  # sums over queries of probabilities
        shares = scores / scores.sum(0, keepdim=True).clamp(min=1e-12)
    return shares.cpu().numpy()
