"""CamVid: street images with 11 classes."""

import os.path as osp
from collections.abc import Callable, Sequence

from mmengine import fileio
from mmseg.datasets import BaseSegDataset

from ..registry import DATASETS

VOID_LABEL = 11
_IGNORED_LABEL = 255


@DATASETS.register_module()
class CamVidDataset(BaseSegDataset):
    """CamVid street images with 11 classes; the void label is ignored.

    The public layout, from the SegNet tutorial, is::

        CamVid/
        ├── train/*.png    trainannot/*.png
        ├── val/*.png      valannot/*.png
        └── test/*.png     testannot/*.png

    A label image holds one 8-bit class number per pixel: 0 to 10, or 11 for
    void, which becomes 255. Start the pipeline with ``LoadImageFromFile`` and
    ``mmfaseg.LoadCamVidAnnotations``.

    Args:
        data_root: folder that both prefixes start from.
        data_prefix: ``img_path`` and ``seg_map_path``, the folders of the
            images and of the labels; without the latter no labels are read.
        img_suffix: ending of the image files.
        seg_map_suffix: ending of the label files.
        ann_file: text file with the names to take, one a line, no suffix;
            empty takes all files of the folder.
        pipeline: transforms of each entry.
        metainfo: for example ``dict(classes=['Road', 'Car'])``, a part of the
            classes; the pixels of the others become 255.
        indices: take only these images, or only the first so many.
        test_mode: whether the images are for validation or testing.
        lazy_init: list the files only at the first access.
        serialize_data: keep the list as bytes that workers can share.
        backend_args: file backend of mmengine; None reads local files.

    Raises:
        ValueError: a folder is missing or empty, or images and labels do
            not come in pairs.
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
        data_root: str | None = None,
        data_prefix: dict | None = None,
        img_suffix: str = '.png',
        seg_map_suffix: str = '.png',
        ann_file: str = '',
        pipeline: Sequence[dict | Callable] = (),
        metainfo: dict | None = None,
        indices: int | Sequence[int] | None = None,
        test_mode: bool = False,
        lazy_init: bool = False,
        serialize_data: bool = True,
        backend_args: dict | None = None,
    ) -> None:
        if data_prefix is None:
            data_prefix = dict(img_path='train', seg_map_path='trainannot')
        if not data_prefix.get('img_path'):
            raise ValueError(
                "data_prefix needs img_path, for example dict(img_path='train'"
                f", seg_map_path='trainannot'), got {data_prefix}"
            )
        super().__init__(
            data_root=data_root,
            data_prefix=data_prefix,
            img_suffix=img_suffix,
            seg_map_suffix=seg_map_suffix,
            ann_file=ann_file,
            pipeline=list(pipeline),
            metainfo=metainfo,
            indices=indices,
            test_mode=test_mode,
            lazy_init=lazy_init,
            serialize_data=serialize_data,
            backend_args=backend_args,
        )

    @classmethod
    def get_label_map(
        cls, new_classes: Sequence[str] | None = None
    ) -> dict[int, int]:
        """Returns the new label of each old label that changes.

        Args:
            new_classes: the classes to keep, in their new order; None keeps
                all.
        """
        label_map = super().get_label_map(new_classes) or {}
        label_map[VOID_LABEL] = _IGNORED_LABEL
        return label_map

    def load_data_list(self) -> list[dict]:
        """Lists the images with their labels, after checking the files."""
        img_dir = self.data_prefix['img_path']
        ann_dir = self.data_prefix.get('seg_map_path')
        self._check_folder(img_dir, self.img_suffix, 'images', 'img')
        if ann_dir is None:
            return super().load_data_list()
        suffix = self.seg_map_suffix
        self._check_folder(ann_dir, suffix, 'labels', 'seg_map')
        entries = super().load_data_list()
        self._check_pairs(entries, img_dir, ann_dir)
        return entries

    def _check_folder(
        self, folder: str, suffix: str, content: str, argument: str
    ) -> None:
        if not fileio.isdir(folder, self.backend_args):
            raise ValueError(
                f'there is no folder {folder} for the {content} of CamVid: '
                'set data_root to the folder that holds train, trainannot, '
                'val, ... , or data_prefix to the names of your folders'
            )
        if not self._files(folder, suffix):
            found = {osp.splitext(name)[1] for name in self._files(folder)}
            raise ValueError(
                f'{folder} holds no {content} ending in {suffix!r}, only '
                f'{sorted(found)}: set {argument}_suffix or data_prefix'
            )

    def _check_pairs(
        self, entries: list[dict], img_dir: str, ann_dir: str
    ) -> None:
        """Raises ValueError unless each entry has both of its files."""
        images = set(self._stems(img_dir, self.img_suffix))
        labels = set(self._stems(ann_dir, self.seg_map_suffix))
        names = {
            osp.relpath(entry['img_path'], img_dir)[: -len(self.img_suffix)]
            for entry in entries
        }
        alone = sorted((names - images) | (names - labels))
        if not self.ann_file:
            alone = sorted(images ^ labels)
        if alone:
            raise ValueError(
                f'{len(alone)} names have not both an image in {img_dir} and '
                f'labels in {ann_dir}, for example {alone[:3]}: add the '
                'missing files, or list the complete pairs in ann_file'
            )

    def _stems(self, folder: str, suffix: str) -> list[str]:
        names = self._files(folder, suffix)
        return [osp.normpath(name[: -len(suffix)]) for name in names]

    def _files(self, folder: str, suffix: str | None = None) -> list[str]:
        names = fileio.list_dir_or_file(
            folder,
            list_dir=False,
            suffix=suffix,
            recursive=True,
            backend_args=self.backend_args,
        )
        return list(names)
