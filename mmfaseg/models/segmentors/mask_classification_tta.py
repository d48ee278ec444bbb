"""Test-time augmentation for mask classification.

Shapes: K classes, H x W the original size of the image.
"""

from collections.abc import Iterable, Sequence
from unittest.mock import patch

from mmengine.model import BaseTTAModel
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample
from torch import Tensor

from mmfaseg.registry import MODELS


@MODELS.register_module()
class MaskClassificationTTA(BaseTTAModel):
    """Averages the scores of several augmented versions of each image.

    mmseg's ``SegTTAModel`` averages the softmax of the scores. Scores of mask
    classification are sums of probabilities, which a softmax would flatten, so
    they are averaged directly. Versions are predicted one by one and added to
    a running sum, so memory does not grow with their number.

    The segmentor maps the scores of each version back to the original image:
    it crops the padding, reverts the flip and resizes.

    The arguments are those of mmengine's ``BaseTTAModel``: ``module``, the
    segmentor or its config, and ``data_preprocessor``, which overrides that of
    the segmentor if ``module`` is a config. It runs with
    ``test_cfg.return_logits=True``.
    """

    def test_step(self, data: dict) -> list[SegDataSample]:
        """Returns one merged prediction per image of mmcv's ``TestTimeAug``.

        Returns:
            list[SegDataSample]: the samples of the first version with
            ``seg_logits``, mean scores, float32, shape (K, H, W),
            and ``pred_sem_seg``, int64, shape (1, H, W). The ground truth is
            that of the first version, so do not flip this version if the
            pipeline loads annotations before the flip.
        """
        with patch.dict(self.module.test_cfg, return_logits=True):
            return _merge(
                self.module.test_step(dict(zip(data, version, strict=True)))
                for version in zip(*data.values(), strict=True)
            )

    def merge_preds(
        self, data_samples_list: Sequence[Sequence[SegDataSample]]
    ) -> list[SegDataSample]:
        """Merges predictions of all versions of each image."""
        return _merge(zip(*data_samples_list, strict=True))


def _merge(
    versions: Iterable[Sequence[SegDataSample]],
) -> list[SegDataSample]:
    """Averages the scores of versions, keeping one version at a time."""
    merged: list[SegDataSample] = []
    totals: list[Tensor] = []
    for count, samples in enumerate(versions, 1):
        if count == 1:
            merged = list(samples)
            # sums in half precision would lose small scores
            totals = [_take_scores(sample).float() for sample in samples]
            continue
        for total, sample in zip(totals, samples, strict=True):
            total += _take_scores(sample)
    for sample, total in zip(merged, totals, strict=True):
        sample.seg_logits = PixelData(data=total.div_(count))
        sample.pred_sem_seg = PixelData(data=total.argmax(0, keepdim=True))
    return merged


def _take_scores(sample: SegDataSample) -> Tensor:
    """Removes the prediction from a sample and returns its scores (K, H, W).

    Raises:
        ValueError: if there are no scores, or they have only one channel.
    """
    if 'seg_logits' not in sample:
        raise ValueError(
            'MaskClassificationTTA averages scores, but the segmentor '
            'returns samples without seg_logits: return them if '
            'test_cfg.return_logits=True'
        )
    scores = sample.seg_logits.data
    if scores.size(0) < 2:
        raise ValueError(
            'MaskClassificationTTA requires at least two classes, but the '
            f'scores have shape {tuple(scores.shape)}: use '
            "mmseg's SegTTAModel for a head with one output channel"
        )
    del sample.seg_logits, sample.pred_sem_seg
    return scores
