"""The loading step of `CamVidDataset`."""

import numpy as np

from ...registry import TRANSFORMS
from ..camvid import VOID_LABEL
from .load_checked import LoadCheckedAnnotations


@TRANSFORMS.register_module()
class LoadCamVidAnnotations(LoadCheckedAnnotations):
    """Loads the labels of `CamVidDataset` and checks them.

    Required keys: seg_map_path, label_map, reduce_zero_label, seg_fields,
    ori_shape.

    Added keys: gt_seg_map (uint8, shape (H, W); void is 255).

    Args:
        on_error: ``'raise'`` raises; ``'skip'``, for training only, logs a
            warning and lets the dataset load another image.
        backend_args: file backend of mmengine; None reads local files.

    Raises:
        ValueError: the labels do not fit the image, or are not in [0, 11].
    """

    def __init__(
        self, on_error: str = 'raise', backend_args: dict | None = None
    ) -> None:
        super().__init__(on_error, backend_args=backend_args)

    def _load_seg_map(self, results: dict) -> None:
        labels = self.read_mask(results)
        if labels.max(initial=0) > VOID_LABEL:
            wrong = np.unique(labels[labels > VOID_LABEL]).tolist()
            raise ValueError(
                f'{results["seg_map_path"]} holds the labels {wrong[:5]}: '
                f'CamVid labels are 0 to 10, or {VOID_LABEL} for void; '
                'renumber the file'
            )
        new_labels = np.arange(VOID_LABEL + 1, dtype=np.uint8)
        for old, new in results['label_map'].items():
            new_labels[old] = new
        results['gt_seg_map'] = new_labels[labels]
        results['seg_fields'].append('gt_seg_map')
