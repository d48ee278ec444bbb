import pytest
import torch

from mmfaseg.models.layers.deformable_encoder import pixel_grid


def test_centers_and_sizes():
    grid = pixel_grid([(1, 2), (2, 1)], torch.zeros(1))
    expected = [[0.25, 0.5], [0.75, 0.5], [0.5, 0.25], [0.5, 0.75]]
    assert grid.centers.tolist() == expected
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
def test_coordinates_have_at_least_float32(dtype, expected):
    grid = pixel_grid([(3, 5)], torch.zeros(1, dtype=dtype))
    assert grid.centers.dtype == grid.pixel_size.dtype == expected
