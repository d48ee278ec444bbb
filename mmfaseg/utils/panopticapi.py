"""What mmdet takes from ``panopticapi``, which is in no package index.

mmdet's ``LoadPanopticAnnotations`` and ``CocoPanopticMetric`` need five names
of COCO's repository. ``import mmfaseg`` offers these where that is not
installed; the rest of it is not here.

Kirillov et al., *Panoptic Segmentation*, CVPR 2019, section 4.1: with TP
matched segments, FP predicted ones and FN true ones without a match,
PQ = SQ · RQ, where SQ is the mean IoU of the matched, and
RQ = TP / (TP + FP / 2 + FN / 2).

Shapes:
    H, W: height and width of an image in pixels.
"""

import importlib.util
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

import numpy as np

OFFSET = 256**3  # more than there are colours
VOID = 0  # the segment of pixels that belong to nothing


def rgb2id(color: Any) -> Any:
    """Returns the number of a segment from its colour.

    Args:
        color (np.ndarray | Sequence[int]): RGB, shape (H, W, 3), or one
            colour.

    Returns:
        np.ndarray | int: int32, shape (H, W), or one number.
    """
    parts = np.asarray(color).astype(np.int32)
    ids = parts[..., 0] + 256 * parts[..., 1] + 256**2 * parts[..., 2]
    return ids if ids.ndim else int(ids)


def id2rgb(id_map: Any) -> Any:
    """Returns the colour of a segment from its number.

    Args:
        id_map (np.ndarray | int): shape (H, W), or one number.

    Returns:
        np.ndarray | list[int]: uint8, shape (H, W, 3), RGB, or one colour.
    """
    ids = np.asarray(id_map).astype(np.int64)
    colours = np.stack([ids >> shift & 255 for shift in (0, 8, 16)], -1)
    return colours.astype(np.uint8) if ids.ndim else colours.tolist()


@dataclass
class PQStatCat:
    """Counts of one category.

    Attributes:
        iou (float): sum over the matched segments.
        tp (int): matched segments.
        fp (int): predicted segments without a match.
        fn (int): true segments without a match.
    """

    iou: float = 0.0
    tp: int = 0
    fp: int = 0
    fn: int = 0

    def __iadd__(self, other: 'PQStatCat') -> 'PQStatCat':
        self.iou += other.iou
        self.tp += other.tp
        self.fp += other.fp
        self.fn += other.fn
        return self


class PQStat:
    """Counts of all categories."""

    def __init__(self) -> None:
        self.pq_per_cat: dict[int, PQStatCat] = {}

    def __getitem__(self, category: int) -> PQStatCat:
        return self.pq_per_cat.setdefault(category, PQStatCat())

    def __iadd__(self, other: 'PQStat') -> 'PQStat':
        for category, counts in other.pq_per_cat.items():
            own = self[category]
            own += counts
        return self

    def pq_average(
        self,
        categories: Mapping[int, Mapping[str, Any]],
        isthing: bool | None,
    ) -> tuple[dict[str, float], dict[int, dict[str, float]]]:
        """Returns the means over categories, and the values of each.

        Args:
            categories (Mapping): COCO's, by their number.
            isthing (bool | None): only things, only stuff, or all.

        Returns:
            tuple: ``pq``, ``sq`` and ``rq`` from 0 to 1 over the ``n``
            categories that occur in ground truth or prediction; the same
            of each category, zeros for one that does not occur.
        """
        values, classwise = [], {}
        for label, category in categories.items():
            if isthing not in (None, category['isthing'] == 1):
                continue
            counts = self[label]
            total = counts.tp + (counts.fp + counts.fn) / 2
            if not total:
                classwise[label] = dict(pq=0.0, sq=0.0, rq=0.0)
                continue
            sq = counts.iou / counts.tp if counts.tp else 0.0
            rq = counts.tp / total
            classwise[label] = dict(pq=counts.iou / total, sq=sq, rq=rq)
            values.append(classwise[label])
        mean: dict[str, float] = {
            key: sum(x[key] for x in values) / max(len(values), 1)
            for key in ('pq', 'sq', 'rq')
        }
        return dict(mean, n=len(values)), classwise


NAMES: dict[str, tuple[str, ...]] = {
    'panopticapi': (),
    'panopticapi.evaluation': ('OFFSET', 'VOID', 'PQStat'),
    'panopticapi.utils': ('rgb2id', 'id2rgb'),
}
# what gave up on it when it was imported; the last holds the package itself
_LOADED_WITHOUT = {
    'mmdet.apis.det_inferencer': ('VOID', 'id2rgb'),
    'mmdet.evaluation.functional.panoptic_utils': (
        'OFFSET',
        'VOID',
        'PQStat',
        'rgb2id',
    ),
    'mmdet.evaluation.metrics.coco_panoptic_metric': (
        *('VOID', 'PQStat', 'rgb2id', 'id2rgb'),
        'panopticapi',
    ),
}


class PanopticApiFinder(MetaPathFinder, Loader):
    """Makes ``panopticapi`` importable: the last finder that Python asks.

    An installed one is found before.
    """

    def find_spec(
        self,
        fullname: str,
        path: Sequence[str] | None,
        target: ModuleType | None = None,
    ) -> ModuleSpec | None:
        """Returns how to make one of the modules, None for another."""
        if fullname not in NAMES:
            return None
        return importlib.util.spec_from_loader(
            fullname, self, is_package=fullname == 'panopticapi'
        )

    def exec_module(self, module: ModuleType) -> None:
        """Fills a module."""
        for name in NAMES[module.__name__]:
            setattr(module, name, globals()[name])


def register_panopticapi() -> None:
    """Makes the modules importable, also for loaded modules of mmdet."""
    if any(isinstance(x, PanopticApiFinder) for x in sys.meta_path):
        return
    sys.meta_path.append(PanopticApiFinder())
    for module, names in _LOADED_WITHOUT.items():
        loaded = sys.modules.get(module)
        if loaded is None or getattr(loaded, names[-1], None) is not None:
            continue
        for name in names:
            value = globals().get(name)
            if name == 'panopticapi':
                value = importlib.import_module(name)
            setattr(loaded, name, value)
