"""The default data set: images drawn from a seed."""

from collections.abc import Callable, Sequence

from mmseg.datasets import BaseSegDataset

from ..registry import DATASETS
from .shapes_canvas import CLASSES
from .shapes_generator import check_arguments


@DATASETS.register_module()
class ShapesDataset(BaseSegDataset):
    """Images drawn from a seed: a data set without files.

    Striped and checkered regions, discs, crosses, poles and wires lie on a
    ground of smooth noise. Colours are drawn alike for all classes, so that
    only texture, shape and context tell them apart. The pipeline starts with
    ``dict(type='mmfaseg.GenerateShapes')`` instead of the loading steps.

    Args:
        split: 'train', 'val' or 'test'; no image belongs to two splits.
        length: number of images.
        image_size: height and width in pixels, each at least 32.
        seed: another seed gives another data set with the same splits.
        pipeline: transforms of each entry.
        metainfo: for example ``dict(classes=[...])`` with a part of the
            classes; the pixels of the others get label 255, ignored.
        indices: take only these images, or only the first so many.
        test_mode: whether the images are for validation or testing.
        lazy_init: build the list of images only at the first access.
        serialize_data: keep the list as bytes that workers can share.

    Raises:
        ValueError: an argument is out of its range.
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
            img_suffix='',
            seg_map_suffix='',
            metainfo=metainfo,
            indices=indices,
            serialize_data=serialize_data,
            pipeline=list(pipeline),
            test_mode=test_mode,
            lazy_init=lazy_init,
        )

    def load_data_list(self) -> list[dict]:
        """Lists what each image is drawn from; nothing is drawn yet."""
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
