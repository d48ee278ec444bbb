"""Targets, losses and predictions of the head, alone and in mmdet."""

import copy
import json
import logging

import numpy as np
import pytest
import torch
from decoder_parts import merge
from mmdet.registry import DATASETS, MODELS
from mmdet.structures import DetDataSample
from mmdet.structures.mask import BitmapMasks, PolygonMasks
from mmengine.config import Config, ConfigDict
from mmengine.dataset import pseudo_collate
from mmengine.evaluator import Evaluator
from mmengine.logging import MMLogger
from mmengine.registry import init_default_scope
from mmengine.structures import InstanceData, PixelData
from test_faseg_head import MODEL as SEMANTIC

from mmfaseg.datasets.shapes_coco import write_shapes_coco
from mmfaseg.models import FASegDetHead, FASegHead
from mmfaseg.models.layers import DecoderOutput
from mmfaseg.testing import as_predictions, assert_close, make_pyramid

THINGS, QUERIES = 3, 6
HEAD = {
    key: value
    for key, value in SEMANTIC['decode_head'].items()
    if key not in ('type', 'num_classes')
}
SIZE = (64, 96)
FOCUS = dict(type='mmfaseg.DynamicFocusAwareQuery')
BOX_AWARE = dict(type='mmfaseg.BoxAwareFocusQuery')


def make_head(things=THINGS, stuff=0, test_cfg=None, loss=None, **decoder):
    settings = copy.deepcopy(HEAD)
    settings['transformer_decoder'].update(decoder)
    settings['loss'].update(loss or {})
    return FASegDetHead(
        **settings,
        num_things_classes=things,
        num_stuff_classes=stuff,
        test_cfg=test_cfg,
    )


@pytest.fixture
def make_detector():
    init_default_scope('mmdet')

    def make(stuff=0, instance_on=True, panoptic_on=False, **head):
        config = ConfigDict(
            type='Mask2Former',
            data_preprocessor=dict(
                type='DetDataPreprocessor',
                mean=[120.0] * 3,
                std=[60.0] * 3,
                pad_size_divisor=32,
                pad_mask=True,
                pad_seg=True,
            ),
            backbone=copy.deepcopy(SEMANTIC['backbone']),
            panoptic_head=dict(
                copy.deepcopy(HEAD),
                type='mmfaseg.FASegDetHead',
                num_things_classes=THINGS,
                num_stuff_classes=stuff,
            ),
            panoptic_fusion_head=dict(
                type='MaskFormerFusionHead',
                num_things_classes=THINGS,
                num_stuff_classes=stuff,
            ),
            train_cfg=dict(),
            test_cfg=dict(
                panoptic_on=panoptic_on,
                instance_on=instance_on,
                max_per_image=5,
            ),
        )
        decoder = merge(config.panoptic_head.transformer_decoder, head)
        config.panoptic_head.transformer_decoder = decoder
        return MODELS.build(config)

    return make


def make_sample(count=3, size=SIZE, crowds=0, polygons=False, stuff=None):
    """Instances are squares, then crowds; the lower half may be stuff."""
    height, width = size
    masks = np.zeros((count + crowds, height, width), np.uint8)
    corners = []
    for n in range(count + crowds):
        left = 4 + n * 80 // max(count + crowds, 1)
        masks[n, 8:24, left : left + 12] = 1
        corners.append((left, 8, left + 12, 24))
    labels = torch.arange(count) % THINGS
    sample = DetDataSample(
        metainfo=dict(
            img_shape=size, ori_shape=size, batch_input_shape=size, img_id=0
        )
    )
    if polygons:
        outlines = [
            [np.array([a, b, c, b, c, d, a, d], float)]
            for a, b, c, d in corners
        ]
        every = PolygonMasks(outlines, height, width)
    else:
        every = BitmapMasks(masks, height, width)
    sample.gt_instances = InstanceData(
        labels=labels, masks=every[np.arange(count)]
    )
    sample.ignored_instances = InstanceData(
        labels=torch.zeros(crowds, dtype=torch.int64),
        masks=every[np.arange(count, count + crowds)],
    )
    if stuff is not None:
        label_map = torch.full((1, height, width), 255)
        label_map[:, height // 2 :] = stuff
        for label, mask in zip(labels, masks[:count], strict=True):
            label_map[0][torch.from_numpy(mask).bool()] = label
        sample.gt_sem_seg = PixelData(sem_seg=label_map)
    return sample


def make_batch(*samples):
    return dict(
        inputs=[
            torch.randint(256, (3, *x.img_shape), dtype=torch.uint8)
            for x in samples
        ],
        data_samples=list(samples),
    )


def loss_of(model, batch):
    batch = model.data_preprocessor(batch, True)
    losses = model.loss(batch['inputs'], batch['data_samples'])
    return model.parse_losses(losses)


# forward


@pytest.mark.parametrize('size', [SIZE, (70, 50)])
def test_equal_weights_give_the_logits_of_the_semantic_head(size):
    head = make_head().double()
    semantic = FASegHead(**copy.deepcopy(HEAD), num_classes=THINGS).double()
    semantic.load_state_dict(head.state_dict())
    feats = make_pyramid(2, HEAD['in_channels'], *size)
    for mode in (True, False):
        head.train(mode), semantic.train(mode)
        found, expected = head(feats), semantic(feats)
        assert len(found[0]) == len(found[1]) == (14 if mode else 1)
        for ours, theirs in zip(found, expected, strict=True):
            for x, y in zip(ours, theirs, strict=True):
                assert torch.equal(x, y)


def test_predict_returns_masks_at_the_padded_size():
    head = make_head().double().eval()
    feats = make_pyramid(2, HEAD['in_channels'], *SIZE)
    scores, masks = head.predict(feats, [make_sample(), make_sample()])
    expected_scores, expected = (x[-1] for x in head(feats))
    assert torch.equal(scores, expected_scores)
    assert masks.shape == (2, QUERIES, *SIZE)
    assert_close(
        masks,
        torch.nn.functional.interpolate(
            expected, SIZE, mode='bilinear', align_corners=False
        ),
    )


def test_box_aware_query_starts_as_the_plain_query():
    plain, aware = (
        make_head().double(),
        make_head(positional_query=BOX_AWARE).double(),
    )
    names = set(aware.state_dict()) - set(plain.state_dict())
    name = 'transformer_decoder.positional_query.box_embed.weight'
    assert names == {name}
    aware.load_state_dict(plain.state_dict(), strict=False)
    feats = make_pyramid(1, HEAD['in_channels'], *SIZE)
    assert torch.equal(plain(feats)[0][-1], aware(feats)[0][-1])
    torch.nn.init.normal_(aware.get_parameter(name))
    assert not torch.allclose(plain(feats)[0][-1], aware(feats)[0][-1])


# losses


@pytest.mark.parametrize('query', [FOCUS, BOX_AWARE])
def test_every_parameter_gets_a_gradient(make_detector, query):
    model = make_detector(positional_query=query)
    total, log = loss_of(model, make_batch(make_sample(), make_sample(2)))
    total.backward()
    assert [n for n, x in model.named_parameters() if x.grad is None] == []
    assert len([name for name in log if 'loss_' in name]) == 3 * 14


@pytest.mark.parametrize('counts', [(0, 0), (0, 2)])
def test_images_without_instances_train(make_detector, counts):
    model = make_detector()
    samples = [make_sample(count) for count in counts]
    total, log = loss_of(model, make_batch(*samples))
    total.backward()
    assert total.isfinite()
    assert all(x.grad is not None for x in model.parameters())
    assert (log['loss_mask'] > 0) == (sum(counts) > 0)


def test_training_reduces_the_loss_of_one_batch(make_detector):
    model = make_detector(positional_query=BOX_AWARE)
    optimizer = torch.optim.AdamW(model.parameters(), 3e-3)
    history = []
    batch = make_batch(make_sample(), make_sample(2))
    for _ in range(30):
        total, _ = loss_of(model, copy.deepcopy(batch))
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
        history.append(float(total.detach()))
    assert np.mean(history[-5:]) < 0.8 * np.mean(history[:5])


@pytest.mark.parametrize('polygons', [False, True])
def test_instances_become_targets(polygons):
    sample = make_sample(3, polygons=polygons)
    targets = make_head()._targets(sample)
    assert targets.labels.tolist() == [0, 1, 2]
    assert targets.masks.dtype == torch.bool
    assert targets.masks.shape == (3, *SIZE)
    assert targets.masks.sum((1, 2)).tolist() == [16 * 12] * 3
    assert targets.ignored is None


def test_crowds_are_padded_and_ignored():
    """The preprocessor pads only the masks of instances."""
    sample = make_sample(2, crowds=1)
    sample.set_metainfo(dict(batch_input_shape=(96, 128)))
    masks = sample.gt_instances.masks
    sample.gt_instances.masks = masks.pad((96, 128))
    targets = make_head()._targets(sample)
    assert targets.masks.shape == (2, 96, 128)
    crowd = sample.ignored_instances.masks.to_ndarray()[0]
    assert torch.equal(
        targets.ignored[:64, :96], torch.from_numpy(crowd).bool()
    )
    assert not targets.ignored[64:].any()
    assert not targets.ignored[:, 96:].any()


@pytest.mark.parametrize('exclude', [True, False])
def test_crowds_get_a_mask_gradient_only_if_not_excluded(exclude):
    head = make_head(loss=dict(exclude_ignored=exclude)).double()
    sample = make_sample(2, crowds=1)
    crowd = np.zeros((1, *SIZE), np.uint8)
    crowd[:, 32:] = 1
    sample.ignored_instances.masks = BitmapMasks(crowd, *SIZE)
    output = head.decode(make_pyramid(1, HEAD['in_channels'], *SIZE))
    features = output.mask_preds.features.detach().requires_grad_()
    output.mask_preds.features = features
    targets = [head._targets(sample)]
    losses = head.loss_module(output.cls_scores, output.mask_preds, targets)
    (losses['loss_mask'] + losses['loss_dice']).backward()
    grad = features.grad[0].abs().sum(0)  # (16, 24)
    assert grad[:6].sum() > 0
    # samples between rows 7 and 8 touch both sides
    assert (grad[9:].sum() == 0) == exclude


def test_more_targets_than_queries_train_and_warn_once(make_detector, caplog):
    model = make_detector()
    batch = make_batch(make_sample(QUERIES + 3), make_sample(1))
    logger = MMLogger.get_current_instance()
    logger.addHandler(caplog.handler)
    try:
        with caplog.at_level(logging.WARNING):
            for _ in range(2):
                total, _ = loss_of(model, copy.deepcopy(batch))
    finally:
        logger.removeHandler(caplog.handler)
    total.backward()
    assert total.isfinite()
    (warning,) = [x for x in caplog.messages if 'an image has' in x]
    assert '9 targets, but the head has only 6 queries' in warning
    assert 'num_queries' in warning


def test_more_targets_than_queries_match_every_query_once():
    head = make_head().double()
    output = head.decode(make_pyramid(1, HEAD['in_channels'], *SIZE))
    targets = [head._targets(make_sample(QUERIES + 3))]
    scores = torch.stack(output.cls_scores)
    (matches,) = head.loss_module.matcher(scores, output.mask_preds, targets)
    for query_index, target_index in matches:
        assert sorted(query_index.tolist()) == list(range(QUERIES))
        assert len(set(target_index.tolist())) == QUERIES


# stuff


def test_stuff_classes_become_targets():
    sample = make_sample(2, stuff=THINGS)
    targets = make_head(stuff=2)._targets(sample)
    assert targets.labels.tolist() == [0, 1, THINGS]
    assert targets.masks[2].sum() == SIZE[0] * SIZE[1] // 2
    upper = torch.ones(SIZE, dtype=torch.bool)
    upper[SIZE[0] // 2 :] = False
    instances = targets.masks[0] | targets.masks[1]
    assert torch.equal(targets.ignored, upper & ~instances)


def test_stuff_without_a_label_map_raises():
    with pytest.raises(ValueError, match=r'num_stuff_classes=2.*gt_sem_seg'):
        make_head(stuff=2)._targets(make_sample())


def test_label_map_is_padded_to_the_size_of_the_masks():
    """A preprocessor without pad_seg does not pad it."""
    sample = make_sample(2, stuff=THINGS)
    sample.set_metainfo(dict(batch_input_shape=(96, 128)))
    masks = sample.gt_instances.masks
    sample.gt_instances.masks = masks.pad((96, 128))
    targets = make_head(stuff=2)._targets(sample)
    assert targets.masks.shape == (3, 96, 128)
    assert targets.ignored[64:].all()
    assert targets.ignored[:, 96:].all()


def test_instances_without_masks_raise():
    sample = make_sample()
    del sample.gt_instances.masks
    with pytest.raises(ValueError, match=r'with_mask=True'):
        make_head()._targets(sample)


def perfect_output(head, sample):
    """Decoder output that equals the ground truth."""
    targets = head._targets(sample)
    count, queries = len(targets.labels), head.num_queries
    scores = torch.full((1, queries, head.num_classes + 1), -20.0)
    scores[0, range(count), targets.labels] = 20.0
    scores[0, count:, -1] = 20.0
    masks = torch.full((1, queries, *targets.masks.shape[1:]), -20.0)
    masks[0, :count][targets.masks] = 20.0
    return DecoderOutput([scores], as_predictions([masks]))


@pytest.mark.parametrize(
    ('task', 'metric', 'expected'),
    [
        ('instance', 'coco/segm_mAP', 1.0),
        ('panoptic', 'coco_panoptic/PQ', 100),
    ],
)
def test_perfect_predictions_have_a_perfect_metric(
    tmp_path, root, task, metric, expected
):
    """Dataset, targets, fusion head and metric agree on the classes."""
    write_shapes_coco(tmp_path, 'val', 4, (128, 128))
    (path,) = (root / 'configs/faseg_coco').glob(f'faseg_*_shapes-{task}-*')
    cfg = Config.fromfile(path)
    init_default_scope('mmdet')
    text = json.dumps(
        dict(data=cfg.val_dataloader.dataset, metric=cfg.val_evaluator)
    )
    cfg = json.loads(text.replace('data/shapes_coco/', f'{tmp_path}/'))
    dataset = DATASETS.build(cfg['data'])
    model = MODELS.build(Config.fromfile(path).model).eval()
    evaluator = Evaluator([cfg['metric']])
    evaluator.dataset_meta = dataset.metainfo
    head = model.panoptic_head
    for index in range(len(dataset)):
        batch = pseudo_collate([dataset[index]])
        sample = batch['data_samples'][0].clone()
        sample.set_metainfo(dict(batch_input_shape=(128, 128)))
        output = perfect_output(head, sample)
        head.decode = lambda feats, trace=False, output=output: output
        evaluator.process(model.test_step(batch), batch)
    results = evaluator.evaluate(len(dataset))
    assert results[metric] == pytest.approx(expected)


def test_panoptic_detector_trains_and_predicts(make_detector):
    model = make_detector(stuff=1, panoptic_on=True)
    batch = make_batch(make_sample(2, stuff=THINGS), make_sample(0, stuff=255))
    total, _ = loss_of(model, copy.deepcopy(batch))
    total.backward()
    assert all(x.grad is not None for x in model.parameters())
    for result in model.eval().test_step(batch):
        panoptic = result.pred_panoptic_seg.sem_seg
        assert panoptic.shape == (1, *SIZE)
        assert (panoptic % 1000 <= THINGS + 1).all()


# instances


@pytest.mark.parametrize('original', [SIZE, (90, 60)])
def test_detector_predicts_instances_at_the_original_size(
    make_detector, original
):
    model = make_detector().eval()
    sample = make_sample()
    sample.set_metainfo(dict(ori_shape=original))
    small = make_sample(size=(40, 50))
    for size, result in zip(
        (original, (40, 50)),
        model.test_step(make_batch(sample, small)),
        strict=True,
    ):
        instances = result.pred_instances
        assert instances.masks.shape == (5, *size)
        assert instances.masks.dtype == torch.bool
        assert (instances.labels < THINGS).all()
        assert instances.bboxes.shape == (5, 4)
        assert ((instances.scores >= 0) & (instances.scores <= 1)).all()


# errors


def test_max_per_image_above_queries_times_classes_raises():
    settings = dict(instance_on=True, max_per_image=19)
    with pytest.raises(ValueError, match=r'max_per_image=19.* 18: decrease'):
        make_head(test_cfg=settings)
    make_head(test_cfg=dict(settings, max_per_image=18))
    make_head(test_cfg=dict(settings, instance_on=False))


@pytest.mark.parametrize(('things', 'stuff'), [(0, 2), (2, -1)])
def test_invalid_number_of_classes_raises(things, stuff):
    with pytest.raises(ValueError, match=f'num_things_classes={things}'):
        make_head(things, stuff)
