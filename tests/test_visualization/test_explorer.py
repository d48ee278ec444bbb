"""Explorations of random networks, compared with their traces."""

import base64
import json
import re

import cv2
import numpy as np
import pytest
import torch
from decoder_parts import merge
from mmdet.structures import DetDataSample
from mmengine.config import Config
from mmengine.registry import DATASETS, MODELS, init_default_scope

from mmfaseg.models import FASegDecoder
from mmfaseg.testing import assert_close
from mmfaseg.visualization.decoder_trace import trace_head
from mmfaseg.visualization.explorer import (
    describe,
    explore,
    make_page,
    write_page,
)
from mmfaseg.visualization.explorer.owners import find_owners

FASEG = 'faseg/faseg_r18_1xb8-3k_shapes-128x128'
LEARNED = dict(type='mmfaseg.LearnedPositionalQuery')
PER_QUERY = dict(type='mmfaseg.PerQueryWindowAttention')
SIZE = (96, 140)  # the network pads it to 96 x 160


@pytest.fixture(scope='module')
def make(root):
    """Returns a random network, an image of 96 x 140, classes, palette."""

    def make(config, **decoder):
        cfg = Config.fromfile(root / f'configs/{config}.py')
        init_default_scope(cfg.default_scope)
        head = cfg.model.decode_head
        head.transformer_decoder = merge(head.transformer_decoder, decoder)
        torch.manual_seed(1)
        model = MODELS.build(cfg.model).eval()
        decoder = getattr(model.decode_head, 'transformer_decoder', None)
        if isinstance(decoder, FASegDecoder):
            torch.nn.init.normal_(decoder.predictor.class_embed.weight)
        cfg.val_dataloader.dataset.update(length=1, image_size=SIZE)
        dataset = DATASETS.build(cfg.val_dataloader.dataset)
        meta = dataset.metainfo
        return model, dataset[0], meta['classes'], meta['palette']

    return make


@pytest.fixture(scope='module')
def network(make):
    return make(FASEG)


@pytest.fixture(scope='module')
def view(network):
    return explore(*network)


@pytest.fixture(scope='module')
def output(network):
    model, item, *_ = network
    data = dict(inputs=[item['inputs']], data_samples=[item['data_samples']])
    batch = model.data_preprocessor(data, False)
    return trace_head(model.decode_head, model.extract_feat(batch['inputs']))


def test_layers_equal_the_trace(view, output):
    assert [x.stride for x in view.layers] == [32, 16, 8, 4] * 3 + [32]
    for layer, trace in zip(view.layers, output.traces, strict=True):
        wanted = trace.attention[0, view.queries].reshape(
            layer.attention.shape
        )
        assert_close(torch.from_numpy(layer.attention), wanted)
        masks = output.mask_preds[layer.layer + 1][0, view.queries].sigmoid()
        assert_close(torch.from_numpy(layer.masks), masks)
        for maps in (layer.attention, layer.preference):
            assert maps.shape == (len(view.queries), *trace.shape)
            np.testing.assert_allclose(maps.sum((1, 2)), 1, rtol=1e-4)


def test_owners_have_the_largest_share_of_their_class(view, output, network):
    """Pixel by pixel, from the scores."""
    assert view.image.shape == (*SIZE, 3)
    scores = output.cls_scores[-1][0].softmax(-1)
    masks = torch.nn.functional.interpolate(
        output.mask_preds[-1], scale_factor=4, mode='bilinear'
    )[0].sigmoid()
    for row, column in ((0, 0), (50, 70), (95, 139), (10, 130)):
        label = view.labels[row, column]
        parts = scores[:, label] * masks[:, row, column]
        assert view.queries[view.owners[row, column]] == parts.argmax()
    area = np.bincount(view.owners[view.owners >= 0])
    assert (np.diff(area) <= 0).all()  # most pixels first


@pytest.mark.parametrize('min_score', [0.0, 2.0])
def test_chunks_do_not_change_owners(monkeypatch, min_score):
    """Compared with all queries at all pixels at once."""
    torch.manual_seed(0)
    classes = torch.randn(9, 5).softmax(-1)
    logits = 4 * torch.randn(9, 7, 11)
    masks = torch.nn.functional.interpolate(
        logits[None], scale_factor=4, mode='bilinear'
    )[0, :, :25, :41].sigmoid()
    best, label = torch.einsum('qk,qhw->khw', classes[:, :-1], masks).max(0)
    wanted = torch.where(best < min_score, -1, label).numpy()
    parts = masks * classes[:, :-1].T[wanted].permute(2, 0, 1)
    owners = np.where(wanted < 0, -1, parts.argmax(0).numpy())
    for numbers in (1, 1 << 11, 1 << 19):
        monkeypatch.setattr(
            'mmfaseg.models.layers.low_memory.CPU_ELEMENTS', numbers
        )
        found = find_owners(classes[:, :-1], logits, (25, 41), min_score)
        assert np.array_equal(found[0], wanted)
        assert np.array_equal(found[1], owners)
    assert (wanted < 0).any() == (min_score > 0) and (wanted >= 0).any()


def test_max_queries_limits_queries(network, view):
    few = explore(*network, max_queries=1)
    assert few.queries.tolist() == view.queries[:1].tolist()
    assert set(np.unique(few.owners)) <= {-1, 0}
    for number in (0, 255):
        with pytest.raises(ValueError, match=f'got {number}'):
            explore(*network, max_queries=number)


def test_dynamic_queries_turn_and_learned_ones_do_not(view, make):
    still = explore(*make(FASEG, positional_query=LEARNED))
    for layer, other in zip(view.layers, still.layers, strict=True):
        if layer.layer == 0 or layer.stride == 4:
            assert np.isnan(layer.turn).all() and np.isnan(other.turn).all()
        else:
            assert (layer.turn > 1e-7).all()
            assert (other.turn < 1e-12).all()


def test_drift_is_measured_in_diagonals(view):
    first, second = view.layers[:2]
    assert np.isnan(first.drift).all()
    shift = np.linalg.norm(second.centers - first.centers, axis=1)
    np.testing.assert_allclose(second.drift, shift / np.hypot(*SIZE))


def test_windows_hold_all_attention(view):
    """Windows in the padding, from column 35 on, are left out."""
    for layer in view.layers:
        assert bool(layer.windows) == (layer.stride == 4)
        if layer.windows:
            outside = np.ones(layer.attention.shape[1:], bool)
            for box in layer.windows:
                assert box.right <= SIZE[1] and box.bottom <= SIZE[0]
                rows = slice(box.top // 4, -(-box.bottom // 4))
                columns = slice(box.left // 4, -(-box.right // 4))
                outside[rows, columns] = False
            outside[:, SIZE[1] // 4 :] = False
            assert outside.any()
            assert layer.attention[:, outside].max() == 0


@pytest.mark.parametrize(
    'decoder',
    [
        dict(high_res_attention=PER_QUERY),
        dict(high_res_attention=dict(type='mmfaseg.DenseCrossAttention')),
        dict(high_res_attention=None, num_layers=9),
        dict(share_high_res_layers=True),
        dict(positional_query=dict(type='mmfaseg.NoPositionalQuery')),
        dict(positional_query=dict(type='mmfaseg.AnchorPositionalQuery')),
    ],
    ids=str,
)
def test_variants_can_be_explored(make, decoder):
    view = explore(*make(FASEG, **decoder))
    assert len(view.layers) == decoder.get('num_layers', 13)
    shared = 'high_res_attention' not in decoder
    assert any(layer.windows for layer in view.layers) == shared
    json.dumps(describe({'one': view}), allow_nan=False)


def test_mmseg_head_raises(make):
    network = make('mask2former/mask2former_r18_1xb8-3k_shapes-128x128')
    with pytest.raises(ValueError, match=r'faseg2mmfaseg\.py converts'):
        explore(*network)


@pytest.fixture(scope='module')
def detector(root):
    """A random detector that predicts no object."""
    name = 'faseg_r18_1xb8-demo_shapes-instance-128x128'
    cfg = Config.fromfile(root / f'configs/faseg_coco/{name}.py')
    init_default_scope(cfg.default_scope)
    model = MODELS.build(cfg.model).eval()
    predictor = model.panoptic_head.transformer_decoder.predictor
    torch.nn.init.constant_(predictor.class_embed.bias[-1:], 50.0)
    item = dict(
        inputs=torch.zeros(3, 64, 64, dtype=torch.uint8),
        data_samples=DetDataSample(metainfo=dict(img_shape=(64, 64))),
    )
    count = model.panoptic_head.num_classes
    return model, item, ['x'] * count, [[9, 9, 9]] * count


def test_empty_prediction_is_shown(detector):
    view = explore(*detector)
    assert len(view.queries) == 0 and len(view.layers) == 5
    assert (view.labels == -1).all() and (view.owners == -1).all()
    (model,) = describe({'x': view})['models']
    assert model['queries'] == [] and len(model['layers']) == 5
    init_default_scope('mmseg')


def test_entropy_of_windows_can_reach_one(view):
    """The maximum is over the cells of the windows."""
    for layer in view.layers:
        if layer.stride == 4:
            read = (layer.attention > 0).sum((1, 2))
            p = layer.attention.astype(float)
            logs = np.log(p, out=np.zeros_like(p), where=p > 0)
            wanted = -(p * logs).sum((1, 2)) / np.log(read)
            np.testing.assert_allclose(layer.entropy, wanted, rtol=1e-6)


def test_diverged_network_raises(make):
    model, *rest = make(FASEG)
    decoder = model.decode_head.transformer_decoder
    decoder.query_feat.weight.data[3] = float('nan')
    with pytest.raises(ValueError, match='the network has diverged'):
        explore(model, *rest)


def test_class_count_mismatch_raises(network):
    model, item, *_ = network
    with pytest.raises(ValueError, match='predicts 7 classes, got 2 names'):
        explore(model, item, ['a', 'b'], [[0, 0, 0]] * 2)


# the page


def read(uri):
    kind, content = uri.split(',')
    assert kind == 'data:image/png;base64'
    flag = cv2.IMREAD_UNCHANGED
    return cv2.imdecode(
        np.frombuffer(base64.b64decode(content), np.uint8), flag
    )


def test_maps_of_the_page_equal_the_layers(view):
    (model,) = describe({'FASeg': view})['models']
    assert model['name'] == 'FASeg' and model['size'] == list(SIZE)
    assert np.array_equal(read(model['image'])[..., ::-1], view.image)
    colors = view.palette[view.labels]
    assert np.array_equal(read(model['labels'])[..., ::-1], colors)
    owners = read(model['owners']).astype(int)
    assert np.array_equal(np.where(owners == 255, -1, owners), view.owners)
    for n, query in enumerate(model['queries']):
        assert query['number'] == view.queries[n]
        assert len(query['layers']) == 13
        for shown, layer in zip(query['layers'], view.layers, strict=True):
            for name in ('focus', 'preference'):
                values = dict(
                    focus=layer.attention, preference=layer.preference
                )[name][n]
                gray = read(shown[name]['png']) / 255
                assert gray.shape == values.shape
                density = values * values.size
                wanted = (np.log10(density.clip(0.1, 100)) + 1) / 3
                np.testing.assert_allclose(gray, wanted, atol=0.5 / 255 + 1e-6)
                peak = shown[name]['peak']
                assert peak == pytest.approx(density.max(), rel=0.06)
            best = layer.scores[n].argmax()
            names = [*view.classes, 'no object']
            assert shown['best'][0] == names[best]


def test_page_is_complete_and_holds_the_data(view, tmp_path):
    path = write_page(tmp_path / 'new' / 'focus.html', 'A', {'x': view})
    page = path.read_text(encoding='utf-8')
    assert not re.search(r'(src|href)="(?!data:)', page)
    text = re.sub(r'base64,[^"]*', '', page)
    assert 'http' not in text
    found = re.search(r'id="data">(.*?)</script>', page, re.DOTALL)
    assert json.loads(found[1])['content'] == describe({'x': view})
    with pytest.raises(ValueError, match=r'focus\.png must end in \.html'):
        write_page(tmp_path / 'focus.png', 'A', {'x': view})


def test_names_are_escaped_in_script():
    page = make_page('</script><b>', dict(models=[]))
    data = re.search(r'id="data">(.*?)</script>', page, re.DOTALL)[1]
    assert json.loads(data)['title'] == '</script><b>'
