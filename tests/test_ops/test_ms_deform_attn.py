import sys
from types import ModuleType

import pytest
import torch

from mmfaseg.ops import ms_deform_attn
from mmfaseg.testing import assert_close

SHAPES = [(3, 4), (5, 2)]


def _inputs(batch=2, heads=2, dims=3, queries=4, points=2):
    tokens = sum(h * w for h, w in SHAPES)
    value = torch.randn(batch, tokens, heads, dims, dtype=torch.float64)
    locations = torch.rand(
        batch, queries, heads, len(SHAPES), points, 2, dtype=torch.float64
    )
    locations = 1.6 * locations - 0.3  # some outside
    weights = torch.rand(
        batch, queries, heads, len(SHAPES), points, dtype=torch.float64
    )
    return value, SHAPES, locations, weights


def _pixel(value, start, shape, y, x):
    if 0 <= y < shape[0] and 0 <= x < shape[1]:
        return value[start + y * shape[1] + x]
    return torch.zeros_like(value[0])


def _by_loops(value, shapes, locations, weights):
    """Equation 3 of Deformable DETR, one sample at a time."""
    batch, queries, heads, _, points = weights.shape
    output = value.new_zeros(batch, queries, heads, value.size(3))
    for b in range(batch):
        for q in range(queries):
            for h in range(heads):
                start = 0
                for level, shape in enumerate(shapes):
                    for p in range(points):
                        x, y = locations[b, q, h, level, p].tolist()
                        x, y = x * shape[1] - 0.5, y * shape[0] - 0.5
                        left, top = int(x // 1), int(y // 1)
                        for row in (top, top + 1):
                            for column in (left, left + 1):
                                area = (1 - abs(y - row)) * (
                                    1 - abs(x - column)
                                )
                                sample = _pixel(
                                    value[b, :, h], start, shape, row, column
                                )
                                output[b, q, h] += (
                                    weights[b, q, h, level, p] * area * sample
                                )
                    start += shape[0] * shape[1]
    return output.flatten(2)


def test_equals_loop_reference():
    torch.manual_seed(0)
    inputs = _inputs()
    assert_close(ms_deform_attn(*inputs), _by_loops(*inputs))


def test_gradients():
    torch.manual_seed(0)
    value, _, locations, weights = _inputs(batch=1, queries=2)
    for x in (value, locations, weights):
        x.requires_grad_()
    assert torch.autograd.gradcheck(
        lambda v, loc, w: ms_deform_attn(v, SHAPES, loc, w),
        (value, locations, weights),
    )


@pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16])
def test_output_keeps_the_dtype_of_the_values(dtype):
    torch.manual_seed(0)
    value, _, locations, weights = _inputs()
    output = ms_deform_attn(
        value.to(dtype), SHAPES, locations.float(), weights.float()
    )
    expected = ms_deform_attn(value, SHAPES, locations, weights)
    assert output.dtype == dtype
    assert_close(output, expected.to(dtype))


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        (lambda v, s, x, w: (v[:, 1:], s, x, w), r'value .*\(B, 22, heads'),
        (lambda v, s, x, w: (v, s, x, w[:, :, :1]), 'attention_weights'),
        (lambda v, s, x, w: (v, s, x[..., 0], w), 'sampling_locations'),
        (lambda v, s, x, w: (v, [(0, 4), s[1]], x, w), r'least \(1, 1\)'),
        (lambda v, s, x, w: (v, s * 9, x, w), 'value'),
        (lambda v, s, x, w: (v.repeat(1, 9, 1, 1), s * 9, x, w), 'most 16'),
    ],
)
def test_shape_mismatch_raises(change, message):
    with pytest.raises(ValueError, match=message):
        ms_deform_attn(*change(*_inputs()))


def test_mmcv_operator_arguments(monkeypatch):
    """mmcv's kernel needs a GPU; this mock has the same signature."""
    from mmfaseg.ops import ms_deform_attn as public
    from mmfaseg.ops import reference

    module = sys.modules[public.__module__]
    seen = []

    class Function:
        @staticmethod
        def apply(value, shapes, starts, locations, weights, step):
            seen.append((shapes.tolist(), starts.tolist(), step))
            sizes = [tuple(x) for x in shapes.tolist()]
            return reference.ms_deform_attn(value, sizes, locations, weights)

    mock = ModuleType('mmcv.ops.multi_scale_deform_attn')
    mock.MultiScaleDeformableAttnFunction = Function
    monkeypatch.setitem(sys.modules, mock.__name__, mock)
    inputs = _inputs(batch=6)
    value, shapes, locations, weights = inputs
    output = module._mmcv(value, shapes, locations, weights)
    assert seen == [([[3, 4], [5, 2]], [0, 12], 2)]
    assert_close(output, ms_deform_attn(*inputs))


def test_coordinates_are_never_rounded_to_half_precision():
    """256 columns, sampled a tenth of a pixel beside their centers."""
    columns = torch.arange(256.0)
    value = columns.view(1, -1, 1, 1).half()
    x = (columns[8:-8] + 0.6) / 256
    locations = torch.stack([x, torch.full_like(x, 0.5)], -1)
    locations = locations.view(1, -1, 1, 1, 1, 2)
    weights = torch.ones(locations.shape[:-1]).half()
    output = ms_deform_attn(value, [(1, 256)], locations, weights)
    expected = (columns[8:-8] + 0.1).half()
    assert torch.equal(output.flatten(), expected)
