"""A decoder trace with known values."""

import numpy as np
import pytest
import torch

from mmfaseg.models.layers import CrossAttention
from mmfaseg.visualization.decoder_trace import DecoderTrace, LayerTrace
from mmfaseg.visualization.explorer import view_trace

NO_OBJECT = 3
CLASSES = ('road', 'sky', 'tree')
PALETTE = [[250, 0, 0], [0, 250, 0], [0, 0, 250]]


def make_output(size=(96, 128), grid=None):
    """Returns a trace of five layers, four queries and three classes.

    Query 0 is class 2 in the upper half, query 1 is class 0 in the lower
    half, query 2 is "no object", query 3 is class 0 with a lower score.
    In layer l every query attends to cell (1, 2) of its level; the
    stride-32 cell (0, 3) comes next in importance.
    """
    rows, columns = grid or (-(-size[0] // 32), -(-size[1] // 32))
    scores = torch.zeros(1, 4, NO_OBJECT + 1)
    for query, label, logit in (
        (0, 2, 5.0),
        (1, 0, 6.0),
        (2, NO_OBJECT, 9.0),
        (3, 0, 3.0),
    ):
        scores[0, query, label] = logit
    masks = torch.full((1, 4, rows * 8, columns * 8), -8.0)
    masks[0, 0, : size[0] // 8] = 8.0
    masks[0, 1, size[0] // 8 :] = 8.0
    masks[0, 2:] = 8.0
    traces = []
    attn = CrossAttention(8, 2)
    for layer, level in enumerate((0, 1, 2, 3, 0)):
        shape = rows * 2**level, columns * 2**level
        query_pos = torch.zeros(1, 4, 8)
        position = torch.zeros(1, 8, *shape)
        attention = torch.zeros(1, 4, *shape)
        windows = importance = None
        if level == 3:
            attention[..., 8, 20] = 1
            windows = torch.tensor([[columns + 2, 3]])
            importance = torch.zeros(1, rows, columns)
            importance[0, 1, 2] = 4 * 0.75
            importance[0, 0, 3] = 4 * 0.25
        else:
            attention[..., 1, 2] = 0.75
            attention[..., 0, 3] = 0.25
        trace = LayerTrace(
            layer,
            level,
            shape,
            query_pos,
            position,
            attention.flatten(2),
            cross_attn=attn,
            window_index=windows,
            window_grid=(rows, columns),
            window_size=8,
            importance=importance,
        )
        traces.append(trace)
    return DecoderTrace(
        [scores * 0] * 5 + [scores], [masks * 0] * 5 + [masks], traces
    )


@pytest.fixture
def output():
    """A trace for an image of 96 x 128 pixels."""
    return make_output()


@pytest.fixture
def view():
    """Returns a function that views a trace on a gray image."""

    def view(output, size=(96, 128)):
        image = np.full((*size, 3), 128, np.uint8)
        return view_trace(output, image, CLASSES, PALETTE)

    return view


@pytest.fixture
def output_of():
    """Returns a function that makes a trace for another size."""
    return make_output
