"""Visualization hook for image files and generated images."""

import logging
from collections.abc import Callable, Sequence

import cv2
import mmcv
import numpy as np
from mmengine import fileio
from mmengine.dist import get_world_size, is_main_process
from mmengine.hooks import Hook
from mmengine.logging import print_log
from mmengine.runner import Runner
from mmseg.engine.hooks import SegVisualizationHook
from mmseg.structures import SegDataSample

from mmfaseg.registry import HOOKS
from mmfaseg.utils.output_names import OutputNames
from mmfaseg.visualization import inputs_to_image


@HOOKS.register_module()
class DrawSegmentationHook(SegVisualizationHook):
    """mmseg's ``SegVisualizationHook`` with support for generated images.

    The image is read from ``img_path`` of the data sample. If there is no such
    file, or if OpenCV cannot decode it, the network input is resized to the
    original size instead. The names of the drawings contain the folders below
    that of the images. With several processes, the main process draws its own
    images. The arguments are those of mmseg's hook.
    """

    _name: Callable[[str], str]

    def before_val(self, runner: Runner) -> None:
        """Prepares the names of the drawings."""
        # not "/": a visualizer does not create folders
        names = OutputNames(runner.val_dataloader.dataset, '_')
        self._name = names.unchecked  # an error would end the training

    def before_test(self, runner: Runner) -> None:
        """Prepares the names of the drawings."""
        self._name = OutputNames(runner.test_dataloader.dataset, '_')
        if self.draw and get_world_size() > 1:
            print_log(
                'DrawSegmentationHook draws only the images of the main '
                'process: test without --launcher to draw all',
                logger='current',
                level=logging.WARNING,
            )

    # OneDL's hook overrides the methods that call _after_iter
    after_val_iter = Hook.after_val_iter
    after_test_iter = Hook.after_test_iter

    def _after_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: dict | None = None,
        outputs: Sequence[SegDataSample] | None = None,
        mode: str = 'val',
    ) -> None:
        """Draws the samples of every ``interval``-th batch."""
        if not self.draw or mode == 'train' or not is_main_process():
            return
        if not self.every_n_inner_iters(batch_idx, self.interval):
            return
        assert data_batch is not None
        assert outputs is not None
        inputs = data_batch['inputs']
        if isinstance(inputs[0], (list, tuple)):
            inputs = inputs[0]  # test-time augmentation: the first view
        for i, output in enumerate(outputs):
            path = output.get('img_path', f'{batch_idx:06d}_{i}')
            image = self._read_image(path)
            if image is None:
                image = inputs_to_image(inputs[i], output.ori_shape)
            self._visualizer.add_datasample(
                f'{mode}_{self._name(path)}',
                image,
                data_sample=output,
                show=self.show,
                wait_time=self.wait_time,
                step=runner.iter,
            )

    def _read_image(self, path: str) -> np.ndarray | None:
        """Returns the RGB image, or None if OpenCV cannot decode the file."""
        try:
            content = fileio.get(path, backend_args=self.backend_args)
            return mmcv.imfrombytes(
                content, channel_order='rgb', backend='cv2'
            )
        # KeyError: no backend for this prefix; cv2.error: for example .npy
        except (OSError, KeyError, cv2.error):
            return None
