"""CamVid: street images with 11 classes."""

from collections.abc import Sequence
from typing import Any

from mmseg.datasets import BaseSegDataset

from ..registry import DATASETS


@DATASETS.register_module()
class CamVidDataset(BaseSegDataset):
    """CamVid street images with 11 classes.

    The folders and label maps are those of the SegNet tutorial::

        CamVid/
        ├── train/*.png    trainannot/*.png
        ├── val/*.png      valannot/*.png
        └── test/*.png     testannot/*.png

    Label maps contain the class index of each pixel, 0 to 10, or 11 for
    unlabeled pixels, which ``LoadAnnotations`` replaces by 255.

    Args:
        img_suffix (str): suffix of the images.
        seg_map_suffix (str): suffix of the label maps.
        **kwargs: arguments of :class:`mmseg.datasets.BaseSegDataset`.
    """

    METAINFO = dict(
        classes=(
            'Sky',
            'Building',
            'Pole',
            'Road',
            'Pavement',
            'Tree',
            'SignSymbol',
            'Fence',
            'Car',
            'Pedestrian',
            'Bicyclist',
        ),
        palette=[
            [128, 128, 128],
            [128, 0, 0],
            [192, 192, 128],
            [128, 64, 128],
            [60, 40, 222],
            [128, 128, 0],
            [192, 128, 128],
            [64, 64, 128],
            [64, 0, 128],
            [64, 64, 0],
            [0, 128, 192],
        ],
    )

    def __init__(
        self,
        img_suffix: str = '.png',
        seg_map_suffix: str = '.png',
        **kwargs: Any,
    ) -> None:
        super().__init__(
            img_suffix=img_suffix, seg_map_suffix=seg_map_suffix, **kwargs
        )

    @classmethod
    def get_label_map(
        cls, new_classes: Sequence[str] | None = None
    ) -> dict[int, int]:
        """Returns the new label of each label that changes.

        Unlabeled pixels become 255, also where ``metainfo`` selects or
        reorders the classes.
        """
        label_map = super().get_label_map(new_classes) or {}
        return {**label_map, len(cls.METAINFO['classes']): 255}
