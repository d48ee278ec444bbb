"""Metrics in percent and the main metric of each task."""

import math
from collections.abc import Mapping

# names for figures, in order of precedence
MAIN_METRICS = {
    'mIoU': 'mIoU',
    'coco_panoptic/PQ': 'PQ',
    'coco/segm_mAP': 'mask AP',
}
_FRACTIONS = 'coco/'  # only mmdet's CocoMetric returns fractions


def in_percent(metrics: Mapping[str, float]) -> dict[str, float]:
    """Returns metrics of mmseg, mmdet or mmfaseg in percent.

    COCO's -1, which means that there are no objects of a size, becomes NaN.
    """
    percent = {}
    for name, value in metrics.items():
        if name.startswith(_FRACTIONS):
            value = 100 * value if value >= 0 else math.nan
        percent[name] = float(value)
    return percent


def main_metric(metrics: Mapping[str, float]) -> str | None:
    """Returns the name of the main metric, or None if there is none."""
    return next((name for name in MAIN_METRICS if name in metrics), None)
