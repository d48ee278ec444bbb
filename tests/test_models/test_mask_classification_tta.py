import gc
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from mmengine.config import Config, ConfigDict
from mmengine.dataset import pseudo_collate
from mmengine.registry import init_default_scope
from mmseg.datasets import BaseSegDataset
from mmseg.models import BaseSegmentor, EncoderDecoder
from mmseg.registry import MODELS

from mmfaseg.testing import assert_close

CONFIGS = Path(__file__).parents[2] / 'configs' / 'faseg'
DEMO = CONFIGS / 'faseg_r18_1xb8-demo_shapes-128x128.py'
SIZE = (37, 45)  # of the images; neither even nor a multiple of 32
RESIZE = dict(type='Resize', scale=(90, 74), keep_ratio=True)
PACK = [dict(type='LoadAnnotations'), dict(type='PackSegInputs')]


class _Echo(EncoderDecoder):
    """Takes the three channels of a image as the scores of its classes.

    Before each prediction it counts the score maps that are still alive.
    """

    def __init__(self, dtype=torch.float32):
        BaseSegmentor.__init__(
            self,
            data_preprocessor=dict(
                type='SegDataPreProcessor',
                pad_val=255,
                test_cfg=dict(size_divisor=32),
            ),
        )
        self.test_cfg = ConfigDict(mode='whole')
        self.align_corners = False
        self.dtype = dtype
        self.alive = []

    def encode_decode(self, inputs, batch_img_metas):
        assert inputs.shape[2:] == (64, 64)  # padded
        return inputs.to(self.dtype)

    def test_step(self, data):
        self.alive.append(
            sum(
                type(x) is torch.Tensor
                and x.is_floating_point()
                and x.shape == (3, *SIZE)
                for x in gc.get_objects()
            )
        )
        return super().test_step(data)


@pytest.fixture
def make_batch(tmp_path):
    """Loads two images from files through a pipeline, as a batch."""
    init_default_scope('mmseg')
    random = np.random.default_rng(0)
    for name in 'ab':
        image = random.integers(256, size=(*SIZE, 3), dtype=np.uint8)
        cv2.imwrite(str(tmp_path / f'{name}.jpg'), image)
        labels = random.integers(7, size=SIZE, dtype=np.uint8)
        cv2.imwrite(str(tmp_path / f'{name}.png'), labels)

    def make(*transforms):
        dataset = BaseSegDataset(
            data_root=str(tmp_path),
            data_prefix=dict(img_path='', seg_map_path=''),
            metainfo=dict(classes=tuple('0123456'), palette=[[0] * 3] * 7),
            pipeline=[dict(type='LoadImageFromFile'), *transforms],
            test_mode=True,
        )
        return pseudo_collate([dataset[0], dataset[1]])

    return make


def _images(tmp_path):
    """The images as _Echo scores them, (3, H, W) each."""
    return [
        torch.from_numpy(cv2.imread(str(tmp_path / f'{name}.jpg')))
        .permute(2, 0, 1)
        .float()
        for name in 'ab'
    ]


def _flips(*chances, direction='horizontal'):
    return [
        dict(type='RandomFlip', prob=chance, direction=direction)
        for chance in chances
    ]


def _versions(*choices):
    return dict(type='TestTimeAug', transforms=[*choices, PACK[:1], PACK[1:]])


def _predict(model, batch):
    with torch.no_grad():
        return model.eval().test_step(batch)


def _with_tta(module):
    return MODELS.build(
        dict(type='mmfaseg.MaskClassificationTTA', module=module)
    )


@pytest.fixture(scope='module')
def faseg():
    init_default_scope('mmseg')
    config = Config.fromfile(str(DEMO)).model
    config.backbone.init_cfg = None
    config.test_cfg.return_logits = True
    return MODELS.build(config)


@pytest.mark.smoke
def test_one_version_equals_no_augmentation(make_batch, faseg):
    plain = _predict(faseg, make_batch(RESIZE, *PACK))
    batch = make_batch(_versions([RESIZE], _flips(0.0)))
    merged = _predict(_with_tta(faseg), batch)
    assert len(merged) == len(plain) == 2
    for one, other in zip(merged, plain, strict=True):
        assert one.seg_logits.shape == SIZE
        assert torch.equal(one.seg_logits.data, other.seg_logits.data)
        assert torch.equal(one.pred_sem_seg.data, other.pred_sem_seg.data)
        assert torch.equal(one.gt_sem_seg.data, other.gt_sem_seg.data)
        assert one.img_path == other.img_path


@pytest.mark.smoke
def test_scores_are_averaged_as_they_are(make_batch, faseg):
    other_size = dict(RESIZE, scale=(135, 111))
    versions = [
        _predict(faseg, make_batch(resize, *_flips(flip), *PACK))
        for resize in (RESIZE, other_size)
        for flip in (0.0, 1.0)
    ]
    batch = make_batch(_versions([RESIZE, other_size], _flips(0.0, 1.0)))
    merged = _predict(_with_tta(faseg), batch)
    for sample, *parts in zip(merged, *versions, strict=True):
        mean = torch.stack([x.seg_logits.data for x in parts]).mean(0)
        assert_close(sample.seg_logits.data, mean)
        assert torch.equal(
            sample.pred_sem_seg.data, sample.seg_logits.data.argmax(0)[None]
        )


@pytest.mark.smoke
@pytest.mark.parametrize('direction', ['horizontal', 'vertical'])
def test_flip_is_undone_inside_the_padding(make_batch, tmp_path, direction):
    """The images are padded at the right and at the bottom only."""
    batch = make_batch(_versions(_flips(0.0, 1.0, direction=direction)))
    assert [x.flip for x, _ in batch['data_samples']] == [False, True]
    merged = _predict(_with_tta(_Echo()), batch)
    for sample, scores in zip(merged, _images(tmp_path), strict=True):
        assert torch.equal(sample.seg_logits.data, scores)


def test_one_version_at_a_time_is_kept(make_batch):
    module = _Echo()
    _predict(_with_tta(module), make_batch(_versions(_flips(*[0.0] * 5))))
    # two images: none before the first version, then their two sums
    assert module.alive == [0, 2, 2, 2, 2]


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
def test_scores_are_summed_in_float32(make_batch, tmp_path, dtype):
    batch = make_batch(_versions(_flips(*[0.0] * 12)))
    merged = _predict(_with_tta(_Echo(dtype)), batch)
    for sample, scores in zip(merged, _images(tmp_path), strict=True):
        assert torch.equal(sample.seg_logits.data, scores)


def test_merge_preds_equals_test_step(make_batch, faseg):
    flips = _flips(0.0, 1.0)
    model = _with_tta(faseg)
    stepped = _predict(model, make_batch(_versions(flips)))
    versions = [_predict(faseg, make_batch(flip, *PACK)) for flip in flips]
    merged = model.merge_preds(list(zip(*versions, strict=True)))
    for one, other in zip(merged, stepped, strict=True):
        assert torch.equal(one.seg_logits.data, other.seg_logits.data)


def test_windows_slide_over_every_version(make_batch, faseg, monkeypatch):
    slide = ConfigDict(mode='slide', crop_size=(50, 60), stride=(30, 40))
    monkeypatch.setattr(faseg, 'test_cfg', slide)
    versions = [
        _predict(faseg, make_batch(RESIZE, flip, *PACK))
        for flip in _flips(0.0, 1.0)
    ]
    batch = make_batch(_versions([RESIZE], _flips(0.0, 1.0)))
    merged = _predict(_with_tta(faseg), batch)
    for sample, *parts in zip(merged, *versions, strict=True):
        mean = torch.stack([x.seg_logits.data for x in parts]).mean(0)
        assert_close(sample.seg_logits.data, mean)


def test_logits_are_requested_from_the_segmentor(
    make_batch, faseg, monkeypatch
):
    cfg = ConfigDict(mode='whole', return_logits=False)
    monkeypatch.setattr(faseg, 'test_cfg', cfg)
    samples = _predict(_with_tta(faseg), make_batch(_versions(_flips(0.0))))
    assert all(x.seg_logits.data.isfinite().all() for x in samples)
    assert cfg.return_logits is False


def test_results_without_logits_raise(make_batch, faseg, monkeypatch):
    predict = faseg.predict

    def predict_labels(*args):
        samples = predict(*args)
        for sample in samples:
            del sample.seg_logits
        return samples

    monkeypatch.setattr(faseg, 'predict', predict_labels)
    with pytest.raises(ValueError, match=r'test_cfg\.return_logits=True'):
        _predict(_with_tta(faseg), make_batch(_versions(_flips(0.0))))


def test_one_output_channel_raises_with_the_remedy(make_batch):
    module = _Echo()
    module.encode_decode = lambda inputs, metas: inputs[:, :1] / 255
    module.decode_head = torch.nn.Identity()
    module.decode_head.threshold = 0.5
    with pytest.raises(ValueError, match=r'\(1, 37, 45\).*SegTTAModel'):
        _predict(_with_tta(module), make_batch(_versions(_flips(0.0))))
