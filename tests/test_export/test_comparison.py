"""Export errors are distinguished from rounding errors."""

import pytest
import torch
from torch import nn

from mmfaseg.export import compare
from mmfaseg.export.comparison import TOLERANCE, sensitivity

SIZE = (2, 64, 96)


class Network(nn.Module):
    """Scores of two classes, sensitive to rounding errors if it is steep.

    ``steep_below`` limits the steepness to images with a dark first pixel.
    """

    in_channels = 3

    def __init__(self, steepness=0.0, steep_below=256.0):
        super().__init__()
        self.steepness = steepness
        self.steep_below = steep_below

    def forward(self, image):
        light = image.mean(1) / 255
        if image[0, 0, 0, 0] < self.steep_below:
            light = light + torch.sin(self.steepness * light)
        scores = torch.stack([light, 1 - light], 1)
        return scores, scores.argmax(1)


def shifted(network, by):
    """Returns a function with wrong scores."""

    def run(image):
        scores, _ = network(image)
        scores = scores + by * torch.tensor([1.0, -1.0]).view(2, 1, 1)
        return scores, scores.argmax(1)

    return run


def test_equal_model_passes():
    network = Network()
    assert compare(network, network, SIZE, 'x') == (0, 0)
    difference, labels = compare(network, shifted(network, 5e-4), SIZE, 'x')
    assert 4e-4 < difference < TOLERANCE
    assert labels < 0.01


@pytest.mark.parametrize('by', [2e-3, float('nan')])
def test_other_model_raises(by):
    network = Network()
    assert sensitivity(network, torch.rand(1, 3, 8, 8)) < 1e-4
    with pytest.raises(RuntimeError, match='file differs from PyTorch by'):
        compare(network, shifted(network, by), SIZE, 'file')


def test_labels_must_match_scores():
    network = Network()

    def run(image):
        scores, labels = network(image)
        return scores, 1 - labels

    with pytest.raises(RuntimeError, match='differs from PyTorch'):
        compare(network, run, SIZE, 'x')


def test_sensitive_network_is_reported():
    network = Network(steepness=1e6)
    assert sensitivity(network, 255 * torch.rand(1, 3, 8, 8)) > 0.1
    with pytest.raises(RuntimeError, match='the network is too sensitive'):
        compare(network, shifted(network, 0.1), SIZE, 'x')


def test_further_images_are_tried():
    """If the network is too sensitive to the first image."""
    seen = []

    def run(image):
        seen.append(float(image[0, 0, 0, 0]))
        return shifted(network, 0.5 if seen[-1] < limit else 0)(image)

    network, limit = Network(), 0
    compare(network, run, SIZE, 'x')
    limit = seen[0] + 1e-3
    network = Network(steepness=1e6, steep_below=limit)
    assert compare(network, run, SIZE, 'x').difference == 0
    assert len(seen) > 2
