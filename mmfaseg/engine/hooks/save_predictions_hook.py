"""Hook that saves the label maps of a test as PNG files."""

from collections.abc import Sequence
from pathlib import Path

from mmengine.hooks import Hook
from mmengine.runner import Runner
from mmseg.structures import SegDataSample

from mmfaseg.registry import HOOKS
from mmfaseg.utils.label_png import write_label_png
from mmfaseg.utils.output_names import OutputNames


@HOOKS.register_module()
class SavePredictionsHook(Hook):
    """Saves the predicted label maps of all test images.

    The folders below that of the images are kept: the label map of
    ``img_dir/a/1.jpg`` is ``out_dir/a/1.png``. The labels are those of the
    annotation files: with ``reduce_zero_label``, the first class is 1. With
    custom ``classes`` in ``metainfo``, they are the indices of these classes.
    More than 256 labels are stored with 16 bits.

    Args:
        out_dir (str): output folder.
    """

    def __init__(self, out_dir: str) -> None:
        self.out_dir = Path(out_dir)

    def before_test(self, runner: Runner) -> None:
        """Creates the output folder and checks the output names.

        Raises:
            ValueError: if two images have the same output name.
        """
        self.out_dir.mkdir(parents=True, exist_ok=True)
        dataset = runner.test_dataloader.dataset
        self._names = OutputNames(dataset)
        # all images, as the other one may belong to another process
        if hasattr(dataset, 'get_data_info'):
            for index in range(len(dataset)):
                path = dataset.get_data_info(index).get('img_path')
                if path is not None:  # else a transform sets it
                    self._names(path)

    def after_test_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: dict | None = None,
        outputs: Sequence[SegDataSample] | None = None,
    ) -> None:
        """Saves the label maps of a batch.

        Raises:
            ValueError: if two images have the same output name.
        """
        for sample in outputs or ():
            labels = sample.pred_sem_seg.data.squeeze(0).cpu().numpy()
            num_classes = len(runner.test_evaluator.dataset_meta['classes'])
            if sample.get('reduce_zero_label', False):
                labels, num_classes = labels + 1, num_classes + 1
            path = self.out_dir / f'{self._names(sample.img_path)}.png'
            write_label_png(path, labels, num_classes)
