import copy
from itertools import product

import pytest
import torch
import torch.nn.functional as F
from decoder_parts import CONDITIONAL, DECODER, merge
from mmengine.config import ConfigDict
from mmengine.logging import MMLogger
from mmengine.registry import init_default_scope
from mmengine.structures import PixelData
from mmseg.registry import MODELS
from mmseg.structures import SegDataSample

from mmfaseg.models import FASegHead
from mmfaseg.models.layers import low_memory
from mmfaseg.testing import assert_close, make_pyramid
from mmfaseg.visualization.decoder_trace import trace_head

MODEL = dict(
    type='mmfaseg.MaskEncoderDecoder',
    data_preprocessor=dict(
        type='SegDataPreProcessor',
        mean=[120.0] * 3,
        std=[60.0] * 3,
        size=(64, 96),
        pad_val=0,
        seg_pad_val=255,
        test_cfg=dict(size_divisor=32),
    ),
    backbone=dict(
        type='ResNet',
        depth=18,
        base_channels=8,
        stem_channels=8,
        norm_cfg=dict(type='BN'),
    ),
    decode_head=dict(
        type='mmfaseg.FASegHead',
        in_channels=[8, 16, 32, 64],
        num_classes=4,
        feat_channels=16,
        num_queries=6,
        pixel_decoder=dict(
            type='mmfaseg.FASegPixelDecoder',
            num_layers=1,
            num_heads=2,
            feedforward_channels=32,
            norm_cfg=dict(type='GN', num_groups=4),
            positional_encoding=CONDITIONAL,
        ),
        transformer_decoder=dict(
            type='mmfaseg.FASegDecoder',
            **merge(
                DECODER,
                dict(
                    layer=dict(num_heads=2, feedforward_channels=32),
                    high_res_attention=dict(omega=2),
                ),
            ),
        ),
        loss=dict(type='mmfaseg.MaskClassificationLoss', num_points=64),
    ),
    train_cfg=dict(),
    test_cfg=dict(mode='whole'),
)


@pytest.fixture
def make_model():
    init_default_scope('mmseg')

    def make(num_classes=4, **test_cfg):
        config = ConfigDict(copy.deepcopy(MODEL))
        config.decode_head.num_classes = num_classes
        config['test_cfg'].update(test_cfg)
        return MODELS.build(config)

    return make


def _batch(*sizes, label=None):
    """Images and label maps of random blocks, as a dataloader returns them."""
    inputs, samples = [], []
    for height, width in sizes:
        inputs.append(
            torch.randint(256, (3, height, width), dtype=torch.uint8)
        )
        label_map = torch.randint(4, (1, -(-height // 16), -(-width // 16)))
        label_map = label_map.repeat_interleave(16, 1)[:, :height]
        label_map = label_map.repeat_interleave(16, 2)[:, :, :width]
        if label is not None:
            label_map = torch.full_like(label_map, label)
        sample = SegDataSample(gt_sem_seg=PixelData(data=label_map))
        sample.set_metainfo(
            dict(ori_shape=(height, width), img_shape=(height, width))
        )
        samples.append(sample)
    return dict(inputs=inputs, data_samples=samples)


def _loss(model, batch):
    batch = model.data_preprocessor(batch, True)
    losses = model.loss(batch['inputs'], batch['data_samples'])
    return model.parse_losses(losses)


@pytest.mark.smoke
def test_every_parameter_gets_a_gradient(make_model):
    model = make_model()
    (layer,) = model.decode_head.pixel_decoder.encoder.layers
    for linear in (
        layer.self_attn.sampling_offsets,
        layer.self_attn.attention_weights,
    ):  # start at zero, and nothing flows through zeros
        torch.nn.init.normal_(linear.weight, std=0.1)
    total, log = _loss(model, _batch((64, 96), (64, 96)))
    total.backward()
    without = []
    for name, parameter in model.named_parameters():
        parts = [parameter.grad]
        if name.endswith('in_proj_bias'):
            # the same offset on all keys leaves a softmax unchanged
            of_query, _, of_value = parameter.grad.chunk(3)
            parts = [of_query, of_value]
        if not all(x is not None and x.abs().sum() > 0 for x in parts):
            without.append(name)
    assert without == []
    assert len([name for name in log if 'loss_' in name]) == 3 * 14


def test_every_parameter_is_in_the_graph_without_any_label(make_model):
    model = make_model()
    total, _ = _loss(model, _batch((64, 96), (64, 96), label=255))
    total.backward()
    assert all(x.grad is not None for x in model.parameters())


@pytest.mark.smoke
def test_training_learns_one_batch(make_model):
    torch.manual_seed(0)
    model, batch = make_model(), _batch((64, 96), (64, 96))
    optimizer = torch.optim.AdamW(model.parameters(), 3e-3)
    history = []
    for _ in range(30):
        total, _ = _loss(model, copy.deepcopy(batch))
        optimizer.zero_grad()
        total.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        history.append(total.item())
    assert history[-1] < 0.6 * history[0]


def test_two_runs_with_one_seed_are_bit_equal(make_model):
    totals = []
    for _ in range(2):
        torch.manual_seed(5)
        total, _ = _loss(make_model(), _batch((64, 96), (64, 96)))
        total.backward()
        totals.append(total)
    assert torch.equal(*totals)


@pytest.mark.smoke
@pytest.mark.parametrize('size', [(64, 96), (50, 83), (64, 64), (33, 31)])
def test_predicts_images_of_any_size(make_model, size):
    model = make_model().eval()
    with torch.no_grad():
        (result,) = model.test_step(_batch(size))
    assert result.seg_logits.data.shape == (4, *size)
    assert result.pred_sem_seg.data.shape == (1, *size)
    assert result.seg_logits.data.isfinite().all()


@pytest.mark.parametrize('size', [(50, 83), (33, 31), (64, 97)])
def test_trains_on_crops_that_32_does_not_divide(make_model, size):
    model = make_model()
    model.data_preprocessor.size = size
    total, _ = _loss(model, _batch(size, size))
    total.backward()
    assert total.isfinite()


def test_scores_are_class_times_mask_probability(make_model):
    model = make_model().eval()
    inputs = torch.randn(2, 3, 64, 96)
    with torch.no_grad():
        feats = model.extract_feat(inputs)
        (scores,), (masks,) = model.decode_head(feats)
        result = model.decode_head.predict(feats, [dict(img_shape=(64, 96))])
    masks = F.interpolate(masks, (64, 96), mode='bilinear').sigmoid()
    expected = torch.zeros_like(result)
    for query in range(6):
        chance = scores[:, query].softmax(-1)[:, :4]
        expected += chance[..., None, None] * masks[:, query, None]
    assert_close(result, expected)


@pytest.mark.parametrize('size', [(64, 96), (64, 94), (128, 126)])
def test_slide_over_one_window_equals_whole(make_model, size):
    torch.manual_seed(0)
    model = make_model().eval()
    model.data_preprocessor.test_cfg = None  # the slide would see the padding
    batch = _batch(size)
    with torch.no_grad():
        (whole,) = model.test_step(copy.deepcopy(batch))
        model.test_cfg.update(mode='slide', crop_size=size, stride=(8, 8))
        (slide,) = model.test_step(batch)
    assert_close(slide.seg_logits.data, whole.seg_logits.data)


@pytest.mark.parametrize('crop', [(50, 60), (94, 126), (95, 157)])
def test_slide_over_several_windows(make_model, crop):
    """A window is smaller than pad_shape, which names the whole image."""
    model = make_model(mode='slide', crop_size=crop, stride=(30, 40))
    with torch.no_grad():
        (result,) = model.eval().test_step(_batch((90, 130)))
    assert result.seg_logits.data.shape == (4, 90, 130)


@pytest.mark.parametrize('size', [(90, 120), (50, 83)])
def test_slide_with_a_window_larger_than_the_image_equals_whole(
    make_model, size
):
    model, batch = make_model().eval(), _batch(size)
    with torch.no_grad():
        (whole,) = model.test_step(copy.deepcopy(batch))
        model.test_cfg.update(
            mode='slide', crop_size=(512, 512), stride=(384, 384)
        )
        (slide,) = model.test_step(batch)
    assert_close(slide.seg_logits.data, whole.seg_logits.data)


@pytest.mark.parametrize('size', [(96, 128), (90, 120)])
@pytest.mark.parametrize(
    ('crop', 'tops', 'lefts'),
    [((64, 64), [0, 32], [0, 48, 64]), ((50, 70), [0, 46], [0, 48, 58])],
)
def test_overlapping_windows_are_averaged(make_model, size, crop, tops, lefts):
    """Two images, padded to 96x128; the last window touches the border."""
    model = make_model(mode='slide', crop_size=crop, stride=(48, 48)).eval()
    batch = _batch(size, size)
    inputs = model.data_preprocessor(copy.deepcopy(batch), False)['inputs']
    assert inputs.shape[2:] == (96, 128)
    total, count = torch.zeros(2, 4, 96, 128), torch.zeros(96, 128)
    with torch.no_grad():
        for top, left in product(tops, lefts):
            rows = slice(top, top + crop[0])
            columns = slice(left, left + crop[1])
            feats = model.extract_feat(inputs[..., rows, columns])
            window = model.decode_head.predict(feats, [dict(img_shape=crop)])
            total[..., rows, columns] += window
            count[rows, columns] += 1
        results = model.test_step(batch)
    expected = (total / count)[..., : size[0], : size[1]]
    for result, scores in zip(results, expected, strict=True):
        assert_close(result.seg_logits.data, scores)


@pytest.mark.parametrize('mode', ['whole', 'slide'])
@pytest.mark.parametrize('resize', [1, 0.6, 1.7])
@pytest.mark.parametrize('flip', [None, 'horizontal', 'vertical'])
def test_labels_without_logits_equal_those_with_logits(
    make_model, monkeypatch, mode, resize, flip
):
    """Two images, padded, and resized to their original sizes."""
    monkeypatch.setattr(low_memory, 'CPU_ELEMENTS', 5000)
    torch.manual_seed(0)
    model = make_model(mode=mode, crop_size=(50, 64), stride=(30, 40))
    model = model.double().eval()
    head = model.decode_head
    last_prediction = head._last_prediction

    def disagree(feats):  # queries of an untrained network are similar
        generator = torch.Generator().manual_seed(0)
        return [
            x + 5 * torch.randn(x.shape[1:], generator=generator).to(x)
            for x in last_prediction(feats)
        ]

    monkeypatch.setattr(head, '_last_prediction', disagree)
    batch = _batch((90, 120), (90, 120))
    for sample in batch['data_samples']:
        height, width = sample.img_shape
        ori_shape = round(height * resize), round(width * resize)
        sample.set_metainfo(
            dict(ori_shape=ori_shape, flip=bool(flip), flip_direction=flip)
        )
    inputs = model.data_preprocessor(batch, False)
    images = inputs['inputs'].double()
    with torch.no_grad():
        expected = model.predict(images, copy.deepcopy(inputs['data_samples']))
        model.test_cfg['return_logits'] = False
        results = model.predict(images, inputs['data_samples'])
    for result, other in zip(results, expected, strict=True):
        labels = result.pred_sem_seg.data
        assert 'seg_logits' not in result
        assert labels.shape == (1, *other.ori_shape)
        assert torch.equal(labels, other.pred_sem_seg.data)
        assert len(labels.unique()) > 1


def test_labels_without_logits_need_no_data_samples(make_model):
    model = make_model(return_logits=False).eval()
    grads = []
    model.backbone.register_forward_hook(
        lambda *_: grads.append(torch.is_grad_enabled())
    )
    (result,) = model.predict(torch.randn(1, 3, 64, 96))
    assert grads == [False], 'labels need no graph'
    assert result.pred_sem_seg.data.shape == (1, 64, 96)


def test_unsupported_settings_without_logits_raise(make_model):
    model = make_model(return_logits=False).eval()
    meta = dict(img_shape=(64, 96), flip=True, flip_direction='diagonal')
    with pytest.raises(ValueError, match='diagonal'):
        model.predict(
            torch.randn(1, 3, 64, 96), [SegDataSample(metainfo=meta)]
        )
    model.test_cfg.update(mode='slide', crop_size=(32, 32), stride=(33, 32))
    with pytest.raises(ValueError, match=r'stride=\(33, 32\)'):
        model.predict(torch.randn(1, 3, 64, 96))
    model.test_cfg.pop('stride')
    with pytest.raises(ValueError, match='test_cfg has no stride'):
        model.predict(torch.randn(1, 3, 64, 96))
    model.test_cfg.mode = 'silde'
    with pytest.raises(ValueError, match="mode='silde' must be 'whole' or"):
        model.predict(torch.randn(1, 3, 64, 96))


def test_samples_prepared_for_training_raise(make_model):
    """mmseg sets ``pad_shape`` of samples without labels to None."""
    model = make_model().eval()
    meta = dict(img_shape=(50, 70), ori_shape=(50, 70))
    data = dict(
        inputs=[torch.zeros(3, 50, 70, dtype=torch.uint8)],
        data_samples=[SegDataSample(metainfo=meta)],
    )
    batch = model.data_preprocessor(data, training=True)
    with pytest.raises(ValueError, match='with training=False'):
        model.predict(**batch)


@pytest.mark.parametrize(
    ('result', 'found'),
    [({'focal': torch.ones(())}, r"\['focal'\]"), (torch.ones(()), 'Tensor')],
)
def test_custom_losses_without_loss_in_their_name_raise(
    make_model, result, found
):
    """mmengine would not minimize them."""

    class Loss(torch.nn.Module):
        def forward(self, cls_scores, mask_preds, targets):
            return result

    head = make_model().decode_head.double()
    head.loss_module = Loss()
    sample = SegDataSample(
        gt_sem_seg=PixelData(data=torch.zeros(1, 64, 64, dtype=torch.long))
    )
    feats = make_pyramid(1, (8, 16, 32, 64), 64, 64)
    with pytest.raises(TypeError, match=f'Loss must return .* got {found}'):
        head.loss(feats, [sample])


def test_more_classes_than_queries_warn_once(monkeypatch):
    init_default_scope('mmseg')
    warnings = []
    monkeypatch.setattr(
        MMLogger, 'warning', lambda _, text: warnings.append(text)
    )
    config = ConfigDict(copy.deepcopy(MODEL))
    config.decode_head.num_queries = 2
    head = MODELS.build(config).decode_head.double()
    feats = make_pyramid(1, (8, 16, 32, 64), 64, 64)
    for count in (2, 3, 3):
        labels = torch.arange(64 * 64).view(1, 64, 64) % count
        sample = SegDataSample(gt_sem_seg=PixelData(data=labels))
        losses = head.loss(feats, [sample])
        assert losses['loss_cls'].isfinite()
    (warning,) = warnings
    assert '3 targets, but the head has only 2 queries' in warning


def _make_fcn(**head):
    init_default_scope('mmseg')
    config = ConfigDict(copy.deepcopy(MODEL))
    config.decode_head = dict(
        type='FCNHead', in_channels=64, channels=8, **head
    )
    return MODELS.build(config).eval()


class LastClassHead(FASegHead):
    """Changes the scores only."""

    def predict(self, *args):
        scores = super().predict(*args)
        scores[:, -1] += 1000
        return scores


@pytest.mark.parametrize('mode', ['whole', 'slide'])
def test_scores_of_a_subclass_determine_the_labels(mode):
    init_default_scope('mmseg')
    config = ConfigDict(copy.deepcopy(MODEL))
    config.decode_head.type = LastClassHead
    model = MODELS.build(config).eval()
    model.test_cfg.update(
        mode=mode, crop_size=(64, 64), stride=(64, 64), return_logits=False
    )
    (result,) = model.predict(torch.randn(1, 3, 64, 64))
    last = model.decode_head.num_classes - 1
    assert result.pred_sem_seg.data.eq(last).all()


def test_other_heads_compute_scores_without_returning_them():
    model = _make_fcn(num_classes=4)
    image = torch.randn(1, 3, 64, 96)
    slide = dict(mode='slide', crop_size=(64, 64), stride=(32, 32))
    for mode in (dict(mode='whole'), slide):
        for align_corners in (False, True):
            model.decode_head.align_corners = align_corners
            model.test_cfg.update(mode, return_logits=False)
            (result,) = model.predict(image)
            assert 'seg_logits' not in result
            model.test_cfg.return_logits = True
            (full,) = model.predict(image)
            assert torch.equal(
                result.pred_sem_seg.data, full.pred_sem_seg.data
            )


@pytest.mark.parametrize('mode', ['whole', 'slide'])
def test_one_output_channel_uses_the_threshold(mode):
    model = _make_fcn(num_classes=2, out_channels=1, threshold=0.5)
    model.test_cfg.update(mode=mode, crop_size=(64, 64), stride=(32, 32))
    image = torch.randn(1, 3, 64, 96)
    (full,) = model.predict(image)
    model.test_cfg.return_logits = False
    (result,) = model.predict(image)
    assert torch.equal(result.pred_sem_seg.data, full.pred_sem_seg.data)
    assert 'seg_logits' not in result


def test_channels_last_changes_nothing(make_model):
    model, image = make_model().double().eval(), torch.randn(1, 3, 64, 96)
    results = []
    with torch.no_grad():
        for channels_last in (True, False):
            model.channels_last = channels_last
            stages = model.extract_feat(image.double())
            assert stages[0].is_contiguous() != channels_last
            meta = [dict(img_shape=(64, 96))]
            results.append(model.decode_head.predict(stages, meta))
    torch.testing.assert_close(*results, atol=1e-9, rtol=0)


def test_single_class_raises(make_model):
    with pytest.raises(ValueError, match=r'num_classes=1.*background'):
        make_model(num_classes=1)


@pytest.mark.parametrize(
    ('change', 'error', 'message'),
    [
        (dict(num_classes='4'), TypeError, "num_classes='4' must be an int"),
        (dict(num_classes=True), TypeError, 'num_classes=True must be an int'),
        (dict(num_classes=0), ValueError, 'num_classes=0 must be at least 1'),
        (dict(num_queries=0), ValueError, 'num_queries=0 must be at least 1'),
        (dict(num_queries=2.5), TypeError, r'num_queries=2\.5 must be an int'),
        (dict(in_channels=64), TypeError, 'in_channels=64 must be a seq'),
        (
            dict(in_channels=[8, 8, 8]),
            ValueError,
            r'four entries.*\[8, 8, 8\]',
        ),
        (
            dict(pixel_decoder=dict(embed_dims=8)),
            ValueError,
            'pixel_decoder: remove embed_dims; the network sets it',
        ),
    ],
)
def test_impossible_numbers_are_named(change, error, message):
    init_default_scope('mmseg')
    config = ConfigDict(copy.deepcopy(MODEL))
    config.decode_head.update(change)
    with pytest.raises(error, match=message):
        MODELS.build(config)


def test_decoders_with_other_levels_or_mask_channels_raise():
    init_default_scope('mmseg')
    feats = make_pyramid(1, (8, 16, 32, 64), 64, 64)
    for change, message in (
        (dict(num_levels=3), 'set pixel_decoder.num_levels to the latter'),
        (dict(mask_channels=8), 'set the same mask_channels for both'),
    ):
        config = ConfigDict(copy.deepcopy(MODEL))
        config.decode_head.pixel_decoder.update(change)
        head = MODELS.build(config).decode_head.double()
        with pytest.raises(ValueError, match=message):
            head(feats)


def test_stages_of_another_backbone_raise_with_the_remedy(make_model):
    head = make_model().decode_head
    stages = [torch.zeros(1, x, 8, 8) for x in (5, 6, 7, 8)]
    with pytest.raises(
        ValueError, match=r'set decode_head.in_channels=\[5, 6'
    ):
        head(stages)
    with pytest.raises(
        ValueError, match=r'3 stages.*set backbone.out_indices'
    ):
        head(stages[:3])


def test_trace_equals_the_prediction(make_model):
    model = make_model().eval()
    feats = model.extract_feat(torch.randn(1, 3, 64, 96))
    output = trace_head(model.decode_head, feats)
    (scores,), (masks,) = model.decode_head(feats)
    assert len(output.traces) == 13
    assert_close(output.cls_scores[-1], scores)
    assert_close(output.mask_preds[-1], masks)
    assert not output.mask_preds[-1].requires_grad


HALF = pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])


@HALF
def test_autocast_trains_close_to_full_precision(make_model, dtype):
    model, batch = make_model(), _batch((64, 96), (64, 96))
    full, _ = _loss(model, copy.deepcopy(batch))
    with torch.autocast('cpu', dtype):
        total, log = _loss(model, batch)
    assert all(loss.dtype == torch.float32 for loss in log.values())
    # not by the tolerance of the dtype: rounding moves the points that the
    # losses sample, and may pair queries otherwise
    torch.testing.assert_close(total, full, atol=0, rtol=0.02)
    total.backward()
    assert all(x.grad.isfinite().all() for x in model.parameters())


@HALF
@pytest.mark.parametrize('size', [(50, 83), (256, 320)])
def test_autocast_predicts_close_to_full_precision(make_model, size, dtype):
    model, batch = make_model().eval(), _batch(size)
    with torch.no_grad():
        (full,) = model.test_step(copy.deepcopy(batch))
        with torch.autocast('cpu', dtype):
            (result,) = model.test_step(batch)
    scores = result.seg_logits.data
    assert scores.dtype == dtype
    assert_close(scores, full.seg_logits.data.to(dtype))


def test_wrong_number_of_classes_is_named(make_model):
    with pytest.raises(ValueError, match=r'\[7\].*num_classes=4'):
        _loss(make_model(), _batch((64, 96), label=7))


def test_auxiliary_heads_add_their_losses():
    init_default_scope('mmseg')
    config = ConfigDict(copy.deepcopy(MODEL))
    config.auxiliary_head = [
        dict(
            type='FCNHead',
            in_index=index,
            in_channels=channels,
            channels=4,
            num_convs=1,
            num_classes=4,
            loss_decode=dict(type='CrossEntropyLoss'),
        )
        for index, channels in ((1, 16), (2, 32))
    ]
    total, losses = _loss(MODELS.build(config), _batch((64, 96), (64, 96)))
    assert total.isfinite()
    assert losses['aux_0.loss_ce'] > 0
    assert losses['aux_1.loss_ce'] > 0
