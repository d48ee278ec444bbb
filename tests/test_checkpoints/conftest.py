"""Small models with the same modules as the full-size ones."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from decoder_parts import merge
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmseg.registry import MODELS
from torch import nn

CONFIGS = Path(__file__).parents[2] / 'configs'
SWIN = dict(
    type='SwinTransformer',
    embed_dims=16,
    depths=[1, 2, 1, 1],
    num_heads=[1, 2, 4, 8],
    window_size=4,
)


@pytest.fixture
def build_faseg() -> Callable[..., nn.Module]:
    """Build a small FASeg with random weights and 7 classes."""

    def build(backbone: str = 'resnet', **head: object) -> nn.Module:
        name = 'faseg/faseg_r18_1xb8-demo_shapes-128x128.py'
        cfg = Config.fromfile(CONFIGS / name)
        init_default_scope(cfg.default_scope)
        model = cfg.model
        del model['auxiliary_head']
        model.decode_head.transformer_decoder.num_layers = 13
        model.backbone.depth = 50
        model.decode_head.in_channels = [128, 256, 512, 1024]
        if backbone == 'swin':
            model.backbone = SWIN
            model.decode_head.in_channels = [16, 32, 64, 128]
        update(model.decode_head, head)
        torch.manual_seed(0)
        return randomize(MODELS.build(model))

    return build


@pytest.fixture
def build_mask2former() -> Callable[[], nn.Module]:
    """Build Mask2Former of mmseg with the sizes of the Shapes configs."""

    def build() -> nn.Module:
        name = 'mask2former/mask2former_r18_1xb8-3k_shapes-128x128.py'
        cfg = Config.fromfile(CONFIGS / name)
        init_default_scope(cfg.default_scope)
        del cfg.model['auxiliary_head']
        torch.manual_seed(1)
        return randomize(MODELS.build(cfg.model))

    return build


@pytest.fixture
def build_faseg_like_mask2former() -> Callable[..., nn.Module]:
    """Build FASeg with the sizes of :func:`build_mask2former`."""

    def build(**head: object) -> nn.Module:
        name = 'faseg/faseg_r18_1xb8-3k_shapes-128x128.py'
        cfg = Config.fromfile(CONFIGS / name)
        init_default_scope(cfg.default_scope)
        del cfg.model['auxiliary_head']
        update(cfg.model.decode_head, head)
        return randomize(MODELS.build(cfg.model))

    return build


def update(settings: dict, changes: dict[str, object]) -> None:
    """Change a config; see :func:`decoder_parts.merge`."""
    for name, value in changes.items():
        if isinstance(value, dict):
            value = merge(settings[name], value)
        settings[name] = value


def randomize(model: nn.Module) -> nn.Module:
    """Fill every parameter and statistic with random values."""
    with torch.no_grad():
        for x in model.state_dict().values():
            if x.is_floating_point():
                x.uniform_(0.05, 0.15)
    return model


@pytest.fixture
def shapes_of() -> Callable[[nn.Module], dict[str, torch.Size]]:
    """Return names and shapes of a model."""
    return lambda model: {k: x.shape for k, x in model.state_dict().items()}
