"""The loading step of `CamVidDataset`."""

import numpy as np
from mmseg.datasets.transforms import LoadAnnotations

from ...registry import TRANSFORMS
from ..camvid import VOID_LABEL


@TRANSFORMS.register_module()
class LoadCamVidAnnotations(LoadAnnotations):
    """Loads the labels of `CamVidDataset` and checks them.

    Required keys: seg_map_path, label_map, reduce_zero_label, seg_fields,
    ori_shape.

    Added keys: gt_seg_map (uint8, shape (H, W); void is 255).

    Args:
        backend_args: file backend of mmengine; None reads local files.

    Raises:
        ValueError: the labels do not fit the picture, or are not in [0, 11].
    """

    def __init__(self, backend_args: dict | None = None) -> None:
        super().__init__(backend_args=backend_args)

    def _load_seg_map(self, results: dict) -> None:
        label_map = results['label_map']
        results['label_map'] = None
        super()._load_seg_map(results)
        results['label_map'] = label_map
        labels = results['gt_seg_map']
        self._check_labels(labels, results)
        new_labels = np.arange(VOID_LABEL + 1, dtype=np.uint8)
        for old, new in label_map.items():
            new_labels[old] = new
        results['gt_seg_map'] = new_labels[labels]

    def _check_labels(self, labels: np.ndarray, results: dict) -> None:
        path, size = results['seg_map_path'], results['ori_shape'][:2]
        if labels.ndim != 2:
            raise ValueError(
                f'{path} has shape {labels.shape}: CamVid labels are class '
                'numbers, one channel; convert coloured labels first'
            )
        if labels.shape != tuple(size):
            raise ValueError(
                f'{path} has height and width {labels.shape}, but its picture '
                f'{results["img_path"]} has {tuple(size)}: bring both to the '
                'same size'
            )
        if labels.max() > VOID_LABEL:
            wrong = np.unique(labels[labels > VOID_LABEL]).tolist()
            raise ValueError(
                f'{path} holds the labels {wrong[:5]}: CamVid labels are 0 to '
                f'10, or {VOID_LABEL} for void; renumber the file'
            )
