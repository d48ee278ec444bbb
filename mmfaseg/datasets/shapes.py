"""Shapes: a data set of generated images."""

from typing import Any

from mmseg.datasets import BaseSegDataset

from ..registry import DATASETS
from .shapes_canvas import CLASSES
from .shapes_generator import check_arguments


@DATASETS.register_module()
class ShapesDataset(BaseSegDataset):
    """Images generated from a seed: a data set without files.

    Striped and checkered regions, discs, crosses, poles and wires lie on a
    ground of smooth noise. The colours of all classes have the same
    distribution, so that only texture, shape and context distinguish them.
    Pipelines start with ``dict(type='mmfaseg.GenerateShapes')`` instead of
    the loading steps.

    Args:
        split (str): ``'train'``, ``'val'`` or ``'test'``; they share no
            image.
        length (int): number of images.
        image_size (tuple[int, int]): (H, W) in pixels, each at least 32.
        seed (int): seed of the data set.
        **kwargs: arguments of :class:`mmseg.datasets.BaseSegDataset`, such as
            ``pipeline`` and ``metainfo``.

    Raises:
        ValueError: if an argument is invalid.
    """

    METAINFO = dict(
        classes=CLASSES,
        palette=[
            [96, 108, 118],
            [232, 160, 64],
            [124, 92, 191],
            [214, 72, 72],
            [64, 172, 110],
            [64, 144, 220],
            [246, 220, 92],
        ],
    )

    def __init__(
        self,
        split: str = 'train',
        length: int = 2000,
        image_size: tuple[int, int] = (128, 128),
        seed: int = 0,
        **kwargs: Any,
    ) -> None:
        if length < 1:
            raise ValueError(f'length must be at least 1, got {length}')
        check_arguments(0, split, image_size, seed)
        self.split = split
        self.length = length
        self.image_size = (int(image_size[0]), int(image_size[1]))
        self.seed = seed
        super().__init__(**kwargs)

    def load_data_list(self) -> list[dict]:
        """Returns the arguments of the generator for each image."""
        return [
            dict(
                img_path=f'shapes://{self.split}/{index:06d}',
                index=index,
                split=self.split,
                image_size=self.image_size,
                seed=self.seed,
                label_map=self.label_map,
                reduce_zero_label=self.reduce_zero_label,
                seg_fields=[],
            )
            for index in range(self.length)
        ]
