"""The metrics of all tasks in one unit, and the one that tells most."""

import math
from collections.abc import Mapping

# in the order in which one of them is chosen, and what it is called
MAIN_METRICS = {
    'mIoU': 'mIoU',
    'coco_panoptic/PQ': 'PQ',
    'coco/segm_mAP': 'mask AP',
}
_FRACTIONS = 'coco/'  # mmdet's CocoMetric, unlike all others


def in_percent(metrics: Mapping[str, float]) -> dict[str, float]:
    """Returns metrics in percent.

    Args:
        metrics (Mapping[str, float]): by the names of mmseg's, mmdet's and
            our metrics.

    Returns:
        dict[str, float]: NaN where COCO says -1, that there are no objects of
        a size.
    """
    found = {}
    for name, value in metrics.items():
        if name.startswith(_FRACTIONS):
            value = 100 * value if value >= 0 else math.nan
        found[name] = float(value)
    return found


def main_metric(metrics: Mapping[str, float]) -> str | None:
    """Returns the name of the metric that tells most, None without any."""
    return next((name for name in MAIN_METRICS if name in metrics), None)
