"""Label noise for training.

Shapes:
    H, W: height and width of the label map in pixels.
"""

import cv2
import numpy as np
from mmcv.transforms import BaseTransform

from ...registry import TRANSFORMS
from .image_seed import image_seed


@TRANSFORMS.register_module()
class NoisyLabels(BaseTransform):
    """Adds annotation errors to the labels of training images.

    An image has the same errors whenever it is loaded, as real annotations
    have: they depend only on the name of the image and the seed. A higher
    ``rate`` adds errors to those of a lower one. Use this step directly after
    the one that loads the labels, before any crop or flip. Ignored pixels stay
    ignored, and no others become ignored.

    Required keys: gt_seg_map (integers, shape (H, W)), img_path.

    Modified keys: gt_seg_map (a new array of the same dtype; for ``'swap'``
    with more than 256 classes, uint8 becomes uint16).

    Args:
        kind (str): ``'swap'`` gives each 8-connected area of a class another
            class, uniformly drawn, with probability ``rate``. ``'boundary'``
            displaces the labels by a smooth random field of vectors of at
            most ``shift`` pixels, without folds.
        num_classes (int): labels are in [0, num_classes), or
            ``ignore_index``.
        rate (float, optional): in [0, 1], for ``'swap'``.
        shift (float, optional): maximum displacement in pixels, at least 1,
            for ``'boundary'``.
        seed (int): seed of the errors.
        ignore_index (int): label of ignored pixels.

    Raises:
        ValueError: if an argument is invalid or belongs to the other kind,
            if a label is not a class, or if the size of the labels is not
            that of the image.
    """

    def __init__(
        self,
        kind: str,
        num_classes: int,
        rate: float | None = None,
        shift: float | None = None,
        seed: int = 0,
        ignore_index: int = 255,
    ) -> None:
        given = [rate is not None, shift is not None]
        required = dict(swap=[True, False], boundary=[False, True])
        if given != required.get(kind):
            raise ValueError(
                "kind must be 'swap', which requires rate, or 'boundary', "
                f'which requires shift, got kind={kind!r}, rate={rate} and '
                f'shift={shift}'
            )
        if num_classes < 2:
            raise ValueError(
                f'num_classes must be at least 2, got {num_classes}'
            )
        if 0 <= ignore_index < num_classes:
            raise ValueError(
                f'ignore_index={ignore_index} is one of the {num_classes} '
                'classes: use a label outside of them'
            )
        if rate is not None and not 0 <= rate <= 1:
            raise ValueError(f'rate must be in [0, 1], got {rate}')
        if shift is not None and not shift >= 1:
            raise ValueError(f'shift must be at least 1 pixel, got {shift}')
        self.kind = kind
        self.num_classes = num_classes
        self.rate = rate
        self.shift = shift
        self.seed = seed
        self.ignore_index = ignore_index

    def transform(self, results: dict) -> dict:
        """Adds errors to the labels of an entry."""
        labels = results['gt_seg_map']
        self._check_labels(labels, results)
        rng = np.random.default_rng(image_seed(results, self.kind, self.seed))
        if self.rate is not None:
            labels = self._swap(labels, self.rate, rng)
        if self.shift is not None:
            labels = self._displace(labels, self.shift, rng)
        results['gt_seg_map'] = labels
        return results

    def _swap(
        self, labels: np.ndarray, rate: float, rng: np.random.Generator
    ) -> np.ndarray:
        largest = np.min_scalar_type(self.num_classes - 1)
        noisy = labels.astype(np.promote_types(labels.dtype, largest))
        for label in np.unique(labels):
            if label == self.ignore_index:
                continue
            inside = labels == label
            count, areas = cv2.connectedComponents(
                inside.astype(np.uint8), connectivity=8
            )
            # all numbers are drawn at any rate; area 0 is the other classes
            is_wrong = rng.random(count) < rate
            others = rng.integers(self.num_classes - 1, size=count)
            others += others >= label
            new = np.where(is_wrong, others, label).astype(noisy.dtype)
            noisy[inside] = new[areas[inside]]
        return noisy

    def _displace(
        self, labels: np.ndarray, shift: float, rng: np.random.Generator
    ) -> np.ndarray:
        height, width = labels.shape
        dy, dx = smooth_field(height, width, shift, rng)
        ys = np.rint(np.arange(height)[:, None] + dy).astype(int)
        xs = np.rint(np.arange(width)[None, :] + dx).astype(int)
        moved = labels[ys.clip(0, height - 1), xs.clip(0, width - 1)]
        ignored = self.ignore_index
        keep = (labels == ignored) | (moved == ignored)
        return np.where(keep, labels, moved)

    def _check_labels(self, labels: np.ndarray, results: dict) -> None:
        valid = (labels >= 0) & (labels < self.num_classes)
        valid |= labels == self.ignore_index
        if not valid.all():
            invalid = np.unique(labels[~valid]).tolist()
            raise ValueError(
                f'{results["img_path"]} has the labels {invalid[:5]}, but '
                f'num_classes is {self.num_classes}'
            )
        size = tuple(results.get('ori_shape', labels.shape)[:2])
        if labels.shape != size:
            raise ValueError(
                f'the labels of {results["img_path"]} have height and width '
                f'{labels.shape}, but the image has {size}: use NoisyLabels '
                'directly after the step that loads the labels'
            )

    def __repr__(self) -> str:
        return (
            f'{type(self).__name__}(kind={self.kind!r}, '
            f'num_classes={self.num_classes}, rate={self.rate}, '
            f'shift={self.shift}, seed={self.seed}, '
            f'ignore_index={self.ignore_index})'
        )


def smooth_field(
    height: int, width: int, max_length: float, rng: np.random.Generator
) -> np.ndarray:
    """Draws a smooth random field of displacements.

    Vectors at nodes 4 * max_length apart are uniformly distributed in the
    disc of radius max_length, and interpolated bilinearly in between. The
    field changes by at most half a pixel per pixel and axis, so that it has
    no folds.

    Returns:
        np.ndarray: float64, shape (2, H, W), rows and columns in pixels.
    """
    gap = 4 * max_length
    rows = _hat_functions(height, gap)
    columns = _hat_functions(width, gap)
    shape = rows.shape[1], columns.shape[1]
    radius = max_length * np.sqrt(rng.random(shape))
    angle = 2 * np.pi * rng.random(shape)
    nodes = radius * np.stack([np.sin(angle), np.cos(angle)])
    return rows @ nodes @ columns.T


def _hat_functions(length: int, gap: float) -> np.ndarray:
    """Returns the weight of each node for each pixel, (length, nodes)."""
    positions = np.arange(length)[:, None] / gap
    nodes = np.arange(int(np.ceil((length - 1) / gap)) + 1)
    return np.clip(1 - np.abs(positions - nodes), 0, 1)
