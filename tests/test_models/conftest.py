import pytest
import torch
from decoder_parts import DECODER, merge

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
    """Makes a small decoder of FASeg with changes, merged as configs are."""
    small = merge(
        DECODER,
        dict(
            embed_dims=16,
            num_classes=5,
            num_queries=6,
            layer=dict(num_heads=2, feedforward_channels=32),
            high_res_attention=dict(omega=8),
        ),
    )

    def make(**changes):
        return FASegDecoder(**merge(small, changes)).double()

    return make
