"""Labels with mistakes, to train with."""

import cv2
import numpy as np
from mmcv.transforms import BaseTransform

from ...registry import TRANSFORMS
from .image_seed import image_seed

KINDS = ('swap', 'boundary')


@TRANSFORMS.register_module()
class NoisyLabels(BaseTransform):
    """Makes the mistakes of annotators in the labels of training images.

    The same image is wrong in the same way whenever it is loaded, as real
    annotations are: chance depends on the image's name and the seed alone.
    A higher ``rate`` adds mistakes to those of a lower one. Hence the step
    stands directly behind the one that loads the labels, before any crop or
    flip. Pixels without a label keep it so, and no others lose theirs.

    Required keys: gt_seg_map (integers, shape (H, W)), img_path.

    Modified keys: gt_seg_map, a new array of the same type.

    Args:
        kind: 'swap' gives each 8-connected area of one class another class
            with probability ``rate``, any other being as likely. 'boundary'
            displaces the labels by a smooth field of random vectors of at
            most ``shift`` pixels, without folds.
        num_classes: labels are in [0, num_classes), or ``ignore_index``.
        rate: in [0, 1], for 'swap'.
        shift: largest displacement in pixels, at least 1, for 'boundary'.
        seed: another seed makes other mistakes.
        ignore_index: label of pixels without a class.

    Raises:
        ValueError: an argument is out of its range or is not for this kind,
            a label is none of the classes, or the labels do not have the
            image's size any more.
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
        if kind not in KINDS:
            raise ValueError(f'kind must be one of {KINDS}, got {kind!r}')
        if kind == 'swap' and (rate is None or shift is not None):
            raise ValueError("kind 'swap' takes rate, and no shift")
        if kind == 'boundary' and (shift is None or rate is not None):
            raise ValueError("kind 'boundary' takes shift, and no rate")
        if num_classes < 2:
            raise ValueError(f'num_classes must be 2 or more: {num_classes}')
        if 0 <= ignore_index < num_classes:
            raise ValueError(
                f'ignore_index={ignore_index} is one of the {num_classes} '
                'classes: a swap would take labels away'
            )
        if rate is not None and not 0 <= rate <= 1:
            raise ValueError(f'rate must be in [0, 1], got {rate}')
        if shift is not None and not shift >= 1:
            raise ValueError(f'shift must be 1 pixel or more, got {shift}')
        self.kind = kind
        self.num_classes = num_classes
        self.rate = rate
        self.shift = shift
        self.seed = seed
        self.ignore_index = ignore_index

    def transform(self, results: dict) -> dict:
        """Replaces the labels of an entry by wrong ones."""
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
        """Returns labels where some areas have another class."""
        wrong = labels.copy()
        for label in np.unique(labels):
            if label == self.ignore_index:
                continue
            inside = labels == label
            count, areas = cv2.connectedComponents(
                inside.astype(np.uint8), connectivity=8
            )
            # 0 is the rest of the image; all numbers are drawn at any rate
            is_wrong = rng.random(count) < rate
            others = rng.integers(self.num_classes - 1, size=count)
            others += others >= label
            new = np.where(is_wrong, others, label).astype(labels.dtype)
            wrong[inside] = new[areas[inside]]
        return wrong

    def _displace(
        self, labels: np.ndarray, shift: float, rng: np.random.Generator
    ) -> np.ndarray:
        """Returns labels that are taken from somewhere nearby."""
        height, width = labels.shape
        dy, dx = smooth_field(height, width, shift, rng)
        ys = np.rint(np.arange(height)[:, None] + dy).astype(int)
        xs = np.rint(np.arange(width)[None, :] + dx).astype(int)
        moved = labels[ys.clip(0, height - 1), xs.clip(0, width - 1)]
        unknown = self.ignore_index
        stays = (labels == unknown) | (moved == unknown)
        return np.where(stays, labels, moved)

    def _check_labels(self, labels: np.ndarray, results: dict) -> None:
        known = (labels >= 0) & (labels < self.num_classes)
        known |= labels == self.ignore_index
        if not known.all():
            wrong = np.unique(labels[~known]).tolist()
            raise ValueError(
                f'{results["img_path"]} has the labels {wrong[:5]}, but '
                f'num_classes is {self.num_classes}'
            )
        size = tuple(results.get('ori_shape', labels.shape)[:2])
        if labels.shape != size:
            raise ValueError(
                f'the labels of {results["img_path"]} have height and width '
                f'{labels.shape}, the image had {size}: put NoisyLabels '
                'directly behind the step that loads the labels'
            )

    def __repr__(self) -> str:
        strength = (
            f'shift={self.shift}' if self.rate is None else f'rate={self.rate}'
        )
        return (
            f'{type(self).__name__}(kind={self.kind!r}, '
            f'num_classes={self.num_classes}, {strength}, seed={self.seed}, '
            f'ignore_index={self.ignore_index})'
        )


def smooth_field(
    height: int, width: int, reach: float, rng: np.random.Generator
) -> np.ndarray:
    """Draws a smooth field of displacements, none longer than ``reach``.

    Vectors are drawn evenly from the disc of that radius at nodes 4 * reach
    apart, and interpolated linearly in between: neighbours differ by at most
    half a pixel per pixel and axis, so that the field folds nowhere.

    Args:
        height: H, in pixels.
        width: W, in pixels.
        reach: in pixels, positive.
        rng: source of the vectors.

    Returns:
        np.ndarray: float64, shape (2, H, W), rows and columns in pixels.
    """
    gap = 4 * reach
    rows = _hat_functions(height, gap)
    columns = _hat_functions(width, gap)
    shape = rows.shape[1], columns.shape[1]
    radius = reach * np.sqrt(rng.random(shape))
    angle = 2 * np.pi * rng.random(shape)
    nodes = radius * np.stack([np.sin(angle), np.cos(angle)])
    return rows @ nodes @ columns.T


def _hat_functions(length: int, gap: float) -> np.ndarray:
    """Returns the weight of each node for each pixel, (length, nodes)."""
    places = np.arange(length)[:, None] / gap
    nodes = np.arange(int(np.ceil((length - 1) / gap)) + 1)
    return np.clip(1 - np.abs(places - nodes), 0, 1)
