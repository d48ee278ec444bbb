import pytest
import torch

from mmfaseg.models.layers import pixel_grid as module
from mmfaseg.models.layers.pixel_grid import pixel_grid


@pytest.fixture(autouse=True)
def _empty(monkeypatch):
    monkeypatch.setattr(module, '_grids', {})


def test_centres_and_sizes():
    grid = pixel_grid([(1, 2), (2, 1)], torch.zeros(1))
    expected = [[0.25, 0.5], [0.75, 0.5], [0.5, 0.25], [0.5, 0.75]]
    assert grid.centres.tolist() == expected
    assert grid.pixel_size.tolist() == [[0.5, 1.0], [1.0, 0.5]]
    assert grid.shapes == ((1, 2), (2, 1))


@pytest.mark.parametrize(
    ('dtype', 'expected'),
    [
        (torch.bfloat16, torch.float32),
        (torch.float16, torch.float32),
        (torch.float32, torch.float32),
        (torch.float64, torch.float64),
    ],
)
def test_coordinates_are_never_halved(dtype, expected):
    grid = pixel_grid([(3, 5)], torch.zeros(1, dtype=dtype))
    assert grid.centres.dtype == grid.pixel_size.dtype == expected


def test_a_size_is_made_once():
    like = torch.zeros(1)
    grid = pixel_grid([(3, 5)], like)
    assert pixel_grid([(3, 5)], like) is grid
    assert pixel_grid([(5, 3)], like) is not grid
    assert pixel_grid([(3, 5)], like.double()) is not grid
    assert pixel_grid([(3, 5)], like.to('meta')).centres.is_meta


def test_the_number_of_remembered_sizes_is_bounded():
    for width in range(1, 3 * module.MAX_GRIDS):
        pixel_grid([(1, width)], torch.zeros(1))
    assert len(module._grids) == module.MAX_GRIDS


def test_a_grid_of_inference_mode_serves_training():
    weight = torch.ones(2, requires_grad=True)
    with torch.inference_mode():
        pixel_grid([(2, 2)], torch.zeros(1))
    grid = pixel_grid([(2, 2)], torch.zeros(1))
    (grid.centres * weight).sum().backward()
    assert weight.grad.tolist() == [2.0, 2.0]


def test_a_fake_grid_is_not_remembered():
    from torch._subclasses.fake_tensor import FakeTensorMode

    with FakeTensorMode():
        pixel_grid([(2, 2)], torch.zeros(1))
    assert type(pixel_grid([(2, 2)], torch.zeros(1)).centres) is torch.Tensor
