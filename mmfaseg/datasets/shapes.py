"""Shapes: a dataset of generated images."""

from collections.abc import Callable, Sequence

from mmseg.datasets import BaseSegDataset

from ..registry import DATASETS
from .shapes_canvas import CLASSES
from .shapes_generator import check_arguments


@DATASETS.register_module()
class ShapesDataset(BaseSegDataset):
    """Images generated from a seed: a dataset without files.

    Striped and checkered regions, discs, crosses, poles and wires lie on a
    ground of smooth noise. The colors of all classes have the same
    distribution, so that only texture, shape and context distinguish them.
    Pipelines start with ``dict(type='mmfaseg.GenerateShapes')`` instead of
    the loading steps.

    Args:
        split (str): ``'train'``, ``'val'`` or ``'test'``; they share no
            image.
        length (int): number of images.
        image_size (tuple[int, int]): (H, W) in pixels, each at least 32.
        seed (int): seed of the dataset.
        pipeline (Sequence[dict | Callable]): transforms of each entry.
        metainfo (dict, optional): for example ``dict(classes=[...])`` with
            some of the classes; pixels of the others are ignored.
        indices (int | Sequence[int], optional): use only these images, or
            the first ones.
        test_mode (bool): whether the images are for validation or testing.
        lazy_init (bool): build the list of images at the first access.
        serialize_data (bool): store the list as bytes that workers share.

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
        pipeline: Sequence[dict | Callable] = (),
        metainfo: dict | None = None,
        indices: int | Sequence[int] | None = None,
        test_mode: bool = False,
        lazy_init: bool = False,
        serialize_data: bool = True,
    ) -> None:
        if length < 1:
            raise ValueError(f'length must be at least 1, got {length}')
        check_arguments(0, split, image_size, seed)
        self.split = split
        self.length = length
        self.image_size = (int(image_size[0]), int(image_size[1]))
        self.seed = seed
        super().__init__(
            metainfo=metainfo,
            indices=indices,
            serialize_data=serialize_data,
            pipeline=list(pipeline),
            test_mode=test_mode,
            lazy_init=lazy_init,
        )

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
