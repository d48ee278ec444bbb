"""Test-time augmentation for mask classification.

Shapes:
    K: number of classes.
    H, W: size of the original picture.
"""

from collections.abc import Iterable, Sequence

from mmengine.model import BaseTTAModel
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample
from torch import Tensor

from mmfaseg.registry import MODELS


@MODELS.register_module()
class MaskClassificationTTA(BaseTTAModel):
    """Averages the scores of several versions of each picture.

    mmseg's ``SegTTAModel`` averages the softmax of the scores. Those of mask
    classification are sums of probabilities already, which a softmax would
    flatten; here they are averaged as they are. Each version is added to a
    running sum and dropped: the memory does not grow with their number.

    The segmentor has brought every version back to the original picture: it
    cuts the padding off, then undoes the flip, then resizes.

    Its arguments are mmengine's: ``module``, the segmentor or its config, and
    ``data_preprocessor``, which replaces that of the config.
    """

    def test_step(self, data: dict) -> list[SegDataSample]:
        """Returns one merged prediction per picture.

        Args:
            data (dict): what mmcv's ``TestTimeAug`` and the dataloader make:
                ``inputs`` and ``data_samples``, each a list of versions, and
                each version a list of pictures.

        Returns:
            list[SegDataSample]: the samples of the first version with
            ``seg_logits``, mean scores, shape (K, H, W), at least float32,
            and ``pred_sem_seg``, int64, shape (1, H, W). Their truth is that
            of the first version, so the pipeline should not flip that one
            where it loads labels before it flips.
        """
        return _merge(
            self.module.test_step(dict(zip(data, version, strict=True)))
            for version in zip(*data.values(), strict=True)
        )

    def merge_preds(
        self, data_samples_list: Sequence[Sequence[SegDataSample]]
    ) -> list[SegDataSample]:
        """Returns the same from predictions that are all made already.

        Args:
            data_samples_list (Sequence[Sequence[SegDataSample]]): for every
                picture its versions.
        """
        return _merge(zip(*data_samples_list, strict=True))


def _merge(
    versions: Iterable[Sequence[SegDataSample]],
) -> list[SegDataSample]:
    """Averages over versions, and holds one version at a time."""
    merged: list[SegDataSample] = []
    totals: list[Tensor] = []
    count = 0
    for samples in versions:
        count += 1
        if not totals:
            merged = list(samples)
            # sums of half precision would round away what they add
            totals = [_take_scores(sample).float() for sample in samples]
            continue
        for total, sample in zip(totals, samples, strict=True):
            total += _take_scores(sample)
    for sample, total in zip(merged, totals, strict=True):
        mean = total.div_(count)
        sample.seg_logits = PixelData(data=mean)
        sample.pred_sem_seg = PixelData(data=mean.argmax(0, keepdim=True))
    return merged


def _take_scores(sample: SegDataSample) -> Tensor:
    """Returns the scores, (K, H, W), and leaves none in the sample.

    Raises:
        ValueError: if there are no scores, or those of only one class.
    """
    if 'seg_logits' not in sample:
        raise ValueError(
            'MaskClassificationTTA averages scores, and the segmentor gives '
            'none: set test_cfg.return_logits=True'
        )
    scores = sample.seg_logits.data
    if scores.size(0) < 2:
        raise ValueError(
            'MaskClassificationTTA takes the class with the highest score, '
            f'and the scores have the shape {tuple(scores.shape)}: use '
            "mmseg's SegTTAModel for a head with one output channel"
        )
    del sample.seg_logits, sample.pred_sem_seg
    return scores
