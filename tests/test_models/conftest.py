import pytest
import torch

from mmfaseg.models.layers import FASegDecoder
from mmfaseg.testing import make_pyramid


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


@pytest.fixture
def decoder_inputs():
    """Makes memories, positions (coarsest first) and mask features."""

    def make(batch=2, height=128, width=192, embed_dims=16):
        channels = (embed_dims,) * 4
        memories = make_pyramid(batch, channels, height, width, seed=1)[::-1]
        positions = make_pyramid(batch, channels, height, width, seed=2)[::-1]
        features = make_pyramid(batch, channels, height, width, seed=3)[0]
        return memories, positions, features

    return make


@pytest.fixture
def make_decoder():
    def make(**kwargs):
        options = dict(
            embed_dims=16,
            num_classes=5,
            num_queries=6,
            num_heads=2,
            feedforward_channels=32,
            omega=8,
        )
        return FASegDecoder(**(options | kwargs)).double()

    return make
