"""The part of ``panopticapi`` that mmdet imports.

``panopticapi`` (COCO's panoptic API) is not on PyPI. mmdet uses five names of
it in ``LoadPanopticAnnotations``, ``CocoPanopticMetric`` and
``DetInferencer``.

Panoptic quality (Kirillov et al., *Panoptic Segmentation*, CVPR 2019, section
4.1), with TP matched segments, FP unmatched predicted segments and FN
unmatched ground truth segments: PQ = SQ * RQ, where SQ is the mean IoU of the
matched segments and RQ = TP / (TP + FP / 2 + FN / 2).

Shapes:
    H, W: height and width of an image in pixels.
"""

import importlib.util
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.machinery import ModuleSpec
from typing import Any, NoReturn

import numpy as np

OFFSET = 256**3  # number of colors
VOID = 0  # id of unlabeled pixels


def rgb2id(color: np.ndarray | Sequence[int]) -> Any:
    """Returns the segment ids of colors: R + 256 G + 65536 B.

    A map (H, W, 3) gives ids (H, W), int32 for uint8 colors and otherwise of
    the same dtype; a single color gives an int.
    """
    color = np.asarray(color)
    if color.dtype == np.uint8:
        color = color.astype(np.int32)
    ids = color @ np.array([1, 256, 256**2], color.dtype)
    return ids if ids.ndim else int(ids)


def id2rgb(id_map: np.ndarray | int) -> Any:
    """Returns the colors of ids, uint8, (H, W, 3), or the list of one id."""
    ids = np.asarray(id_map)
    colors = np.stack([ids // 256**n % 256 for n in range(3)], -1)
    return colors.astype(np.uint8) if ids.ndim else colors.tolist()


@dataclass
class PQStatCat:
    """Match counts of one category.

    Attributes:
        iou (float): sum of the IoUs of the matched segments.
        tp (int): matched segments.
        fp (int): unmatched predicted segments.
        fn (int): unmatched ground truth segments.
    """

    iou: float = 0.0
    tp: int = 0
    fp: int = 0
    fn: int = 0

    def quality(self) -> dict[str, float] | None:
        """Returns pq, sq and rq, or None if the category never occurs."""
        total = self.tp + (self.fp + self.fn) / 2
        if not total:
            return None
        sq = self.iou / self.tp if self.tp else 0.0
        return dict(pq=self.iou / total, sq=sq, rq=self.tp / total)


class PQStat:
    """Match counts of all categories."""

    def __init__(self) -> None:
        self.pq_per_cat: dict[int, PQStatCat] = {}

    def __getitem__(self, category: int) -> PQStatCat:
        return self.pq_per_cat.setdefault(category, PQStatCat())

    def __iadd__(self, other: 'PQStat') -> 'PQStat':
        for category, counts in other.pq_per_cat.items():
            own = self[category]
            for name, value in vars(counts).items():
                setattr(own, name, getattr(own, name) + value)
        return self

    def pq_average(
        self,
        categories: Mapping[int, Mapping[str, Any]],
        isthing: bool | None,
    ) -> tuple[dict[str, float], dict[int, dict[str, float]]]:
        """Returns the mean quality and the quality of each category.

        Args:
            categories (Mapping): COCO's categories by id.
            isthing (bool | None): True for things, False for stuff, None for
                all categories.

        Returns:
            tuple: ``pq``, ``sq`` and ``rq`` in [0, 1], averaged over the
            ``n`` categories that occur in ground truth or prediction; and
            the values of each category, zero if it does not occur.
        """
        found = {
            label: self[label].quality()
            for label, category in categories.items()
            if isthing in (None, category['isthing'] == 1)
        }
        values = [x for x in found.values() if x is not None]
        mean: dict[str, float] = {
            key: sum(x[key] for x in values) / max(len(values), 1)
            for key in ('pq', 'sq', 'rq')
        }
        zeros = dict(pq=0.0, sq=0.0, rq=0.0)
        classwise = {label: x or zeros for label, x in found.items()}
        return dict(mean, n=len(values)), classwise


def _missing_name(name: str) -> NoReturn:
    """Module ``__getattr__`` that raises for names that mmdet does not use.

    ``from ... import`` would replace the message of an AttributeError.
    """
    if name.startswith('_'):
        raise AttributeError(name)
    raise ImportError(
        'mmfaseg provides only the part of panopticapi that mmdet uses, '
        f'without {name!r}: pip install '
        'git+https://github.com/cocodataset/panopticapi.git'
    )


MODULES: dict[str, tuple[str, ...]] = {
    'panopticapi': (),
    'panopticapi.evaluation': ('OFFSET', 'VOID', 'PQStat'),
    'panopticapi.utils': ('rgb2id', 'id2rgb'),
}
_IMPORTERS = (  # set missing names to None when they are imported
    'mmdet.apis.det_inferencer',
    'mmdet.evaluation.functional.panoptic_utils',
    'mmdet.evaluation.metrics.coco_panoptic_metric',
)


def register_panopticapi() -> None:
    """Makes ``panopticapi`` importable, unless it is installed."""
    if importlib.util.find_spec('panopticapi') is not None:
        return
    values: dict[str, Any] = {}
    for module_name, names in MODULES.items():
        spec = ModuleSpec(module_name, None)
        module = importlib.util.module_from_spec(spec)
        for name in names:
            values[name] = globals()[name]
            setattr(module, name, values[name])
        vars(module)['__getattr__'] = _missing_name
        values[module_name] = sys.modules[module_name] = module
    for name in ('evaluation', 'utils'):
        setattr(values['panopticapi'], name, values[f'panopticapi.{name}'])
    for importer in _IMPORTERS:
        loaded = vars(sys.modules[importer]) if importer in sys.modules else {}
        loaded.update(
            {x: values[x] for x in values if loaded.get(x, 0) is None}
        )
