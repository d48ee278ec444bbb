"""Fast paths equal plain ones for random arguments, or raise a clear error.

hypothesis generates the same examples in every run (``derandomize``), so that
failures are reproducible. To test more examples:
``HYPOTHESIS_EXAMPLES=2000 pytest tests/test_fuzz.py``.
"""

import os

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mmengine.registry import MODELS

import mmfaseg  # noqa: F401
from mmfaseg.models.layers import FASegDecoder
from mmfaseg.models.layers.mask_merge import (
    merge_scores,
    merge_scores_plain,
)
from mmfaseg.models.losses import MaskClassificationLoss
from mmfaseg.models.task_modules import targets_from_label_map
from mmfaseg.ops import hrca_gather, ms_deform_attn, reference
from mmfaseg.testing import as_predictions, assert_close, make_pyramid
from mmfaseg.visualization.decoder_trace import trace_decoder
from mmfaseg.visualization.explorer.owners import find_owners

EXAMPLES = os.environ.get('HYPOTHESIS_EXAMPLES')
FUZZ = settings(
    max_examples=int(EXAMPLES or 40),
    derandomize=EXAMPLES is None,
    deadline=None,
    database=None,
)
ATTENTIONS = [
    None,
    dict(type='mmfaseg.DenseCrossAttention'),
    *(
        dict(type=f'mmfaseg.{name}', omega=omega, importance_stride=stride)
        for name in ('HighResolutionCrossAttention', 'PerQueryWindowAttention')
        for omega in (1, 5, 32)
        for stride in (32, 16, 8)
    ),
]
QUERIES = [
    dict(type='mmfaseg.LearnedPositionalQuery'),
    dict(type='mmfaseg.NoPositionalQuery'),
    dict(type='mmfaseg.AnchorPositionalQuery'),
    *(
        dict(type=f'mmfaseg.{name}', init_pool=pool)
        for name in ('DynamicFocusAwareQuery', 'BoxAwareFocusQuery')
        for pool in ('background', 'foreground', 'learned')
    ),
]
DTYPES = st.sampled_from(
    [torch.float64, torch.float32, torch.bfloat16, torch.float16]
)
LAYOUTS = st.sampled_from(['contiguous', 'channels_last', 'transposed'])


def laid_out(maps, layout):
    """Returns the same values in another memory format."""
    if layout == 'channels_last':
        return maps.contiguous(memory_format=torch.channels_last)
    if layout == 'transposed':
        return maps.transpose(2, 3).contiguous().transpose(2, 3)
    return maps


@FUZZ
@given(st.data())
def test_gathered_windows_equal_reference(data):
    draw = data.draw
    torch.manual_seed(draw(st.integers(0, 9)))
    grid = draw(st.integers(1, 5)), draw(st.integers(1, 5))
    side = draw(st.integers(1, 9))
    height = draw(st.integers(1, grid[0] * side + 2))
    width = draw(st.integers(1, grid[1] * side + 2))
    batch, channels = draw(st.integers(1, 3)), draw(st.integers(1, 20))
    shape = batch, channels, height, width
    dtype = draw(DTYPES)
    feature = laid_out(torch.randn(shape).to(dtype), draw(LAYOUTS))
    position = laid_out(torch.randn(shape).to(dtype), draw(LAYOUTS))
    count = draw(st.integers(1, grid[0] * grid[1]))
    index = torch.rand(batch, grid[0] * grid[1]).topk(count).indices
    embed = torch.randn(channels).to(dtype) if draw(st.booleans()) else None
    arguments = feature, position, index, side, grid, embed
    try:
        value, key, outside = hrca_gather(*arguments)
    except ValueError as error:
        assert 'do not cover a map' in str(error)
        assert any(
            not (cells - 1) * side < length <= cells * side
            for cells, length in zip(grid, (height, width), strict=True)
        )
        return
    expected = reference.hrca_gather(*arguments)
    assert_close(value, expected[0])
    assert_close(key, expected[1])
    _, beyond = reference.window_pixels(index, side, grid, (height, width))
    assert (outside is None) == (beyond is None)
    assert outside is None or torch.equal(outside, beyond)


@FUZZ
@given(st.data())
def test_deformable_attention_equals_reference(data):
    draw = data.draw
    torch.manual_seed(draw(st.integers(0, 9)))
    side = st.integers(1, 9)
    shapes = [(draw(side), draw(side)) for _ in range(draw(st.integers(1, 4)))]
    sizes = [height * width for height, width in shapes]
    batch, heads = draw(st.integers(1, 3)), draw(st.integers(1, 4))
    dims, queries = draw(st.integers(1, 17)), draw(st.integers(1, 9))
    points = draw(st.integers(1, 5))
    dtype = draw(st.sampled_from([torch.float64, torch.float32]))
    value = torch.randn(batch, sum(sizes), heads, dims, dtype=dtype)
    layout = (batch, queries, heads, len(shapes), points)
    spread = draw(st.sampled_from([0.2, 1.0, 5.0]))  # also far outside
    places = 0.5 + spread * torch.randn(*layout, 2, dtype=dtype)
    weights = torch.rand(layout, dtype=dtype)
    expected = reference.ms_deform_attn(value, shapes, places, weights)
    found = ms_deform_attn(value, shapes, places, weights)
    assert_close(found, expected)


@FUZZ
@given(st.data())
def test_decoders_predict_the_same_in_training_and_evaluation(data):
    """With all memory formats, traced or not."""
    draw = data.draw
    torch.manual_seed(draw(st.integers(0, 9)))
    num_layers = draw(st.integers(4, 9))
    decoder = FASegDecoder(
        16,
        3,
        num_queries=draw(st.integers(1, 9)),
        num_layers=num_layers,
        layer=dict(
            type='mmfaseg.DFPQDecoderLayer',
            num_heads=draw(st.sampled_from([1, 2, 4])),
            feedforward_channels=8,
        ),
        positional_query=draw(st.sampled_from(QUERIES)),
        high_res_attention=draw(st.sampled_from(ATTENTIONS)),
        masked_attention=dict(
            type='mmfaseg.MaskedCrossAttention',
            mask_threshold=draw(st.sampled_from([0.0, 0.15, 0.5])),
        ),
    )
    decoder = decoder.double().eval()
    levels = decoder.num_levels
    batch = draw(st.integers(1, 2))
    size = draw(st.integers(1, 150)), draw(st.integers(1, 150))
    channels = (16,) * 4
    memories = make_pyramid(batch, channels, *size, seed=1)[::-1][:levels]
    positions = make_pyramid(batch, channels, *size, seed=2)[::-1][:levels]
    features = make_pyramid(batch, channels, *size, seed=3)[0]
    layout = draw(LAYOUTS)
    moved = [[laid_out(x, layout) for x in y] for y in (memories, positions)]
    with torch.no_grad():
        try:
            plain = decoder(memories, positions, features)
        except ValueError as error:
            # level sizes that are not multiples of each other
            assert 'do not cover' in str(error)
            return
        others = [
            decoder(*moved, laid_out(features, layout)),
            trace_decoder(decoder, memories, positions, features),
            decoder.train()(memories, positions, features),
        ]
    assert plain.cls_scores[-1].isfinite().all()
    for other in others:
        assert_close(other.cls_scores[-1], plain.cls_scores[-1])
        assert_close(other.mask_preds[-1], plain.mask_preds[-1])
    assert len(others[1].traces) == num_layers
    for trace in others[1].traces:
        assert_close(
            trace.attention.sum(-1), torch.ones_like(trace.attention[..., 0])
        )


@FUZZ
@given(st.data())
def test_scores_and_owners_are_those_of_all_pixels_at_once(data):
    draw = data.draw
    torch.manual_seed(draw(st.integers(0, 9)))
    queries, count = draw(st.integers(1, 9)), draw(st.integers(1, 6))
    height, width = draw(st.integers(1, 20)), draw(st.integers(1, 20))
    classes = torch.randn(1, queries, count + 1).double().softmax(-1)
    masks = 3 * torch.randn(1, queries, height, width).double()
    size = draw(st.integers(1, 90)), draw(st.integers(1, 90))
    pixels = masks.permute(0, 2, 3, 1).contiguous()
    chances = classes[..., :-1]
    assert_close(
        merge_scores(chances, pixels, size),
        merge_scores_plain(chances, pixels, size),
    )
    size = draw(st.integers(1, 4 * height)), draw(st.integers(1, 4 * width))
    least = draw(st.sampled_from([0.0, 0.3, 9.0]))
    labels, owners = find_owners(chances[0], masks[0], size, least)
    full = torch.nn.functional.interpolate(
        masks.float(), scale_factor=4, mode='bilinear'
    )[0, :, : size[0], : size[1]].sigmoid()
    scores = torch.einsum('qk,qhw->khw', chances[0].float(), full)
    best, label = scores.max(0)
    wanted = torch.where(best < least, -1, label).numpy()
    assert (labels == wanted).mean() > 0.999  # rounding decides ties
    assert ((owners < 0) == (labels < 0)).all() and owners.max() < queries


@FUZZ
@given(st.data())
def test_losses_and_gradients_are_finite_for_any_targets(data):
    """Includes more targets than queries, images of one pixel, no labels."""
    draw = data.draw
    torch.manual_seed(draw(st.integers(0, 9)))
    queries, count = draw(st.integers(1, 9)), draw(st.integers(1, 12))
    size = draw(st.integers(1, 40)), draw(st.integers(1, 40))
    share = draw(st.sampled_from([0.0, 0.5, 1.0]))
    targets = []
    for _ in range(2):
        labels = torch.randint(0, count, size)
        labels[torch.rand(size) < share] = 255
        targets.append(targets_from_label_map(labels, count, 255))
    loss = MODELS.build(
        dict(
            type='mmfaseg.MaskClassificationLoss',
            num_classes=count,
            num_points=draw(st.integers(1, 50)),
            importance_sample_ratio=draw(st.sampled_from([0.0, 0.75, 1.0])),
            no_object_weight=draw(st.sampled_from([0.0, 0.1])),
            exclude_ignored=draw(st.booleans()),
        )
    )
    assert isinstance(loss, MaskClassificationLoss)
    reach = draw(st.sampled_from([0.1, 10.0, 1000.0]))
    height, width = draw(st.integers(1, 12)), draw(st.integers(1, 12))
    scores = reach * torch.randn(2, queries, count + 1)
    masks = reach * torch.randn(2, queries, height, width)
    inputs = scores.requires_grad_(), masks.requires_grad_()
    losses = loss([inputs[0]], as_predictions([inputs[1]]), targets)
    total = sum(losses.values())
    assert total.isfinite() and total >= 0
    gradients = torch.autograd.grad(total, inputs, allow_unused=True)
    for gradient in gradients:
        assert gradient is None or gradient.isfinite().all()
