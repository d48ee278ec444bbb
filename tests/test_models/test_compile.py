"""The whole inference model as one graph."""

import copy

import pytest
import torch
from decoder_parts import LEARNED, SINE, merge
from mmengine.config import ConfigDict
from mmengine.registry import init_default_scope
from mmseg.registry import MODELS
from test_faseg_head import MODEL

from mmfaseg.testing import assert_close


@pytest.fixture
def model():
    init_default_scope('mmseg')
    return MODELS.build(ConfigDict(copy.deepcopy(MODEL))).double().eval()


def _scores(model):
    def run(image):
        meta = [dict(img_shape=tuple(image.shape[2:]))]
        return model.encode_decode(image, meta)

    return run


@torch.no_grad()
@pytest.mark.slow
def test_inference_has_no_graph_break(model):
    torch._dynamo.reset()
    run = _scores(model)
    compiled = torch.compile(run, backend='aot_eager', fullgraph=True)
    for size in ((64, 96), (96, 64)):  # the second one with symbols
        image = torch.randn(1, 3, *size, dtype=torch.float64)
        assert_close(compiled(image), run(image))


@torch.no_grad()
@pytest.mark.slow
@pytest.mark.parametrize(
    'changes',
    [
        dict(
            positional_query=dict(type='mmfaseg.AnchorPositionalQuery'),
            high_res_attention=None,
        ),
        dict(
            positional_query=dict(type='mmfaseg.NoPositionalQuery'),
            high_res_attention=dict(
                type='mmfaseg.PerQueryWindowAttention', importance_stride=8
            ),
            share_high_res_layers=True,
            num_layers=13,
        ),
    ],
    ids=['anchor-off', 'none-per-query-shared'],
)
def test_variants_have_no_graph_break(changes):
    """And run with bfloat16 weights and under autocast."""
    torch._dynamo.reset()
    init_default_scope('mmseg')
    cfg = ConfigDict(copy.deepcopy(MODEL))
    decoder = merge(cfg.decode_head.transformer_decoder, changes)
    cfg.decode_head.transformer_decoder = decoder
    is_first = 'positional_query' in changes
    cfg.decode_head.pixel_decoder.positional_encoding = (
        LEARNED if is_first else SINE
    )
    model = MODELS.build(cfg).eval()
    run = _scores(model)
    compiled = torch.compile(run, backend='eager', fullgraph=True)
    for size in ((64, 96), (96, 64)):
        image = torch.randn(1, 3, *size)
        assert_close(compiled(image), run(image))
    with torch.autocast('cpu', torch.bfloat16):
        assert run(image).isfinite().all()
    model.bfloat16()
    assert run(image.bfloat16()).isfinite().all()


@pytest.mark.slow
def test_training_forward_has_no_graph_break(model):
    torch._dynamo.reset()
    model.train()
    head = model.decode_head
    feats = model.extract_feat(torch.randn(2, 3, 64, 96).double())
    compiled = torch.compile(head, backend='aot_eager', fullgraph=True)
    for found, expected in zip(compiled(feats), head(feats), strict=True):
        assert_close(torch.stack(found), torch.stack(expected))


@pytest.mark.slow
@pytest.mark.skipif(
    ' ' in torch.__file__,
    reason='Inductor does not quote the path of the PyTorch libraries',
)
@torch.no_grad()
def test_inductor_computes_the_same(model):
    torch._dynamo.reset()
    run = _scores(model)
    image = torch.randn(1, 3, 64, 96, dtype=torch.float64)
    compiled = torch.compile(run, fullgraph=True)
    assert_close(compiled(image), run(image))


@torch.no_grad()
@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16])
def test_weights_of_half_precision(model, dtype):
    """Not autocast: the model itself in half precision."""
    image = torch.randn(1, 3, 64, 96)
    expected = _scores(model.float())(image)
    scores = _scores(model.to(dtype))(image.to(dtype))
    assert scores.dtype == dtype
    error = (scores.float() - expected).abs().median()
    assert error < 0.02 * expected.abs().median()
