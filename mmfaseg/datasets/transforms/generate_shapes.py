"""Loading step of ``ShapesDataset``."""

import numpy as np
from mmcv.transforms import BaseTransform

from ...registry import TRANSFORMS
from ..shapes_canvas import CLASSES
from ..shapes_generator import generate_shapes


@TRANSFORMS.register_module()
class GenerateShapes(BaseTransform):
    """Draws the image and the labels of an entry of ``ShapesDataset``.

    Replaces ``LoadImageFromFile`` and ``LoadAnnotations``.

    Required keys: split, index, image_size, seed, label_map, seg_fields.

    Added keys: img (uint8, shape (H, W, 3), BGR), img_shape, ori_shape,
    gt_seg_map (uint8, shape (H, W); 255 for classes that ``label_map``
    drops).
    """

    def transform(self, results: dict) -> dict:
        """Adds the image and its labels to an entry of the data list."""
        try:
            image, labels = generate_shapes(
                results['index'],
                results['split'],
                results['image_size'],
                results['seed'],
            )
        except KeyError as error:
            raise ValueError(
                f'the entry has no key {error}: GenerateShapes must be the '
                'first step of the pipeline of mmfaseg.ShapesDataset'
            ) from error
        if results['label_map'] is not None:
            new_labels = np.arange(len(CLASSES), dtype=np.uint8)
            for old, new in results['label_map'].items():
                new_labels[old] = new
            labels = new_labels[labels]
        results['img'] = image
        results['img_shape'] = image.shape[:2]
        results['ori_shape'] = image.shape[:2]
        results['gt_seg_map'] = labels
        results['seg_fields'].append('gt_seg_map')
        return results
