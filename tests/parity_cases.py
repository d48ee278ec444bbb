"""Recorded outputs of the authors' program, and our network on its inputs.

The recordings are not in the repository; ``MMFASEG_PARITY_DIR`` is their
folder.
"""

import functools
import importlib.util
import json
import os
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope
from torch import Tensor, nn

from mmfaseg.checkpoints import from_faseg
from mmfaseg.checkpoints.key_mapping import DECODER, FASEG_RULES, map_key
from mmfaseg.models import FASegDecoder
from mmfaseg.models.layers import (
    CrossAttention,
    FeatureLevel,
    HighResolutionCrossAttention,
)
from mmfaseg.models.losses import mask_classification_loss
from mmfaseg.models.task_modules import mask_matcher

ROOT = Path(__file__).parent.parent
PARITY = Path(
    os.environ.get('MMFASEG_PARITY_DIR', ROOT.parent / 'shared' / 'parity')
)
CONFIG = ROOT / 'configs/faseg/faseg_r50_8xb2-160k_ade20k-512x512.py'
ABSENT = (
    f'there are no recorded outputs in {PARITY}: set MMFASEG_PARITY_DIR to '
    'their folder'
)
HRCA_LAYERS = (3, 7, 11)
PIXEL_MEAN = (123.675, 116.28, 103.53)
PIXEL_STD = (58.395, 57.12, 57.375)


@functools.cache
def load_case(name: str) -> tuple[dict[str, np.ndarray], dict]:
    """Returns the arrays and the metadata of a case."""
    with np.load(PARITY / f'case_{name}.npz') as file:
        arrays = {key: file[key] for key in file.files}
    return arrays, json.loads(str(arrays.pop('meta_json')))


def load_recipe(name: str) -> ModuleType:
    """Returns a Python module of the recordings."""
    spec = importlib.util.spec_from_file_location(name, PARITY / f'{name}.py')
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def make_state(names: list, classes: int) -> dict[str, Tensor]:
    """Returns a complete checkpoint of the authors' program."""
    recipe = load_recipe('weights_recipe')
    state = recipe.make_torch_state(names)
    weights = torch.ones(classes + 1)
    weights[-1] = 0.1
    return state | {'criterion.empty_weight': weights}


@functools.cache
def r50_state() -> dict[str, Tensor]:
    """Returns the weights shared by cases A, B and E."""
    arrays, _ = load_case('A')
    return make_state(json.loads(str(arrays['state_json'])), 150)


def build_r50() -> nn.Module:
    """Returns FASeg R50 for ADE20K with the weights of cases A, B and E."""
    from mmseg.registry import MODELS

    cfg = Config.fromfile(CONFIG)
    init_default_scope(cfg.default_scope)
    cfg.model.backbone.init_cfg = None
    model = MODELS.build(cfg.model)
    shapes = {name: x.shape for name, x in model.state_dict().items()}
    model.load_state_dict(from_faseg(r50_state(), shapes).state)
    return model


def build_tiny(meta: dict, omega: int) -> FASegDecoder:
    """Returns the decoder of case T."""
    tiny = meta['tiny']
    decoder = FASegDecoder(
        embed_dims=tiny['hidden_dim'],
        num_classes=tiny['num_classes'],
        num_queries=tiny['num_queries'],
        mask_channels=tiny['mask_dim'],
        num_layers=tiny['dec_layers'],
        layer=dict(
            type='mmfaseg.DFPQDecoderLayer',
            num_heads=tiny['nheads'],
            feedforward_channels=tiny['dim_feedforward'],
        ),
        positional_query=dict(type='mmfaseg.DynamicFocusAwareQuery'),
        masked_attention=dict(type='mmfaseg.MaskedCrossAttention'),
        high_res_attention=dict(
            type='mmfaseg.HighResolutionCrossAttention', omega=omega
        ),
    )
    theirs = 'sem_seg_head.predictor.'
    state = make_state(meta['state'], tiny['num_classes'])
    del state['criterion.empty_weight']
    shapes = {
        DECODER + name: x.shape for name, x in decoder.named_parameters()
    }
    converted = from_faseg(
        {theirs + name: x for name, x in state.items()}, shapes
    )
    decoder.load_state_dict(
        {name.removeprefix(DECODER): x for name, x in converted.state.items()}
    )
    return decoder


def make_image(meta: dict) -> Tensor:
    """Returns the normalized image of a case, float64, (B, 3, H, W).

    The authors' program rounds mean and deviation to float32 in any dtype.
    """
    batch, _, height, width = meta['input_shape']
    image = load_recipe('weights_recipe').make_image(
        batch, height, width, meta.get('image_seed', 0)
    )
    mean, std = (
        torch.tensor(values)[:, None, None].double()
        for values in (PIXEL_MEAN, PIXEL_STD)
    )
    return (torch.from_numpy(image).double() - mean) / std


class Watch:
    """Records values that the decoder does not return.

    Attributes:
        blocked (dict[int, Tensor]): Pixels that masked attention excludes, by
            layer, shape (B, Q, L).
        importance (dict[int, Tensor]): Importance of the windows of each
            HRCA layer, by layer, shape (B, H_0, W_0).
        pools (list[Tensor]): Pixel weights from which each positional query
            is computed, shape (B, Q, L).
        positional_queries (list[Tensor]): In order, shape (B, Q, C).
    """

    def __init__(self, decoder: FASegDecoder) -> None:
        self.blocked: dict[int, Tensor] = {}
        self.importance: dict[int, Tensor] = {}
        self.pools: list[Tensor] = []
        self.positional_queries: list[Tensor] = []
        for layer in decoder.layers.values():
            layer.cross_attn.register_forward_hook(self._record)
        query = decoder.positional_query
        focus = query._focus

        def watched(
            query_embed: Tensor, level: FeatureLevel, pool: Tensor
        ) -> Tensor:
            result = focus(query_embed, level, pool)
            self.pools.append(pool.detach())
            self.positional_queries.append(result.detach())
            return result

        query._focus = watched

    def _record(self, attention: CrossAttention, args: Any, _: Any) -> None:
        layer = len(self.blocked) + len(self.importance)
        _, state, level = args
        if isinstance(attention, HighResolutionCrossAttention):
            self.importance[layer] = attention.importance(state, level)
        else:
            self.blocked[layer] = attention.blocked_pixels(state, level)


def difference(expected: np.ndarray, actual: Tensor) -> float:
    """Returns the largest absolute difference."""
    assert tuple(expected.shape) == tuple(actual.shape)
    wanted = torch.from_numpy(np.asarray(expected, np.float64))
    return float((wanted - actual.detach().double()).abs().max())


def deal_points(monkeypatch, heads: int, batch: int, pairs: int, loss) -> None:
    """Makes our loss sample the points of the authors' program.

    Their program iterates over the predictions, the last one first, and
    samples for the matcher, then for the losses. Ours matches all images
    first.

    Args:
        heads (int): Number of predictions.
        batch (int): Number of images.
        pairs (int): Number of matched masks in the batch.
        loss (MaskClassificationLoss): Loss with the numbers of points.
    """
    rest = loss.num_points - loss.num_uncertain
    torch.manual_seed(0)
    dealt = {}
    for head in (heads - 1, *range(heads - 1)):
        matching = [torch.rand(1, loss.num_points, 2) for _ in range(batch)]
        candidates = torch.rand(pairs, loss.num_candidates, 2)
        dealt[head] = (matching, candidates, torch.rand(pairs, rest, 2))
    order = range(heads)
    queue = [
        torch.cat([dealt[head][0][i] for head in order]) for i in range(batch)
    ]
    for head in order:
        queue += dealt[head][1:]

    def draw(shape: tuple[int, int], device: torch.device) -> Tensor:
        points = queue.pop(0)
        assert points.shape == (*shape, 2)
        return points.to(device)

    replace_points(monkeypatch.setattr, draw)


def replace_points(replace: Callable, draw: Callable) -> None:
    """Replaces the points that the loss and the matcher sample.

    Args:
        replace (Callable): Sets an attribute, like ``monkeypatch.setattr``.
        draw (Callable): Replaces ``draw_points``.
    """
    for module in (mask_classification_loss, mask_matcher):
        replace(module, 'draw_points', draw)


def per_query(expected: np.ndarray, actual: Tensor) -> Tensor:
    """Returns the largest difference of each query, (B, Q) -> (B * Q,)."""
    assert tuple(expected.shape) == tuple(actual.shape)
    wanted = torch.from_numpy(np.asarray(expected, np.float64))
    error = (wanted - actual.detach().double()).abs()
    return error.flatten(2).amax(-1).flatten()


def statistics(x: Tensor) -> Tensor:
    """Returns mean, standard deviation, minimum, maximum, mean magnitude."""
    x = x.detach().double()
    parts = (x.mean(), x.std(correction=0), x.min(), x.max(), x.abs().mean())
    return torch.stack(parts)


def sample(x: Tensor) -> Tensor:
    """Returns the values of a map that are recorded."""
    _, channels, height, width = x.shape
    return x[:, :: channels // 16, :: height // 8, :: width // 8]


def our_name(name: str) -> str:
    """Returns our name of a parameter of the authors' model."""
    found = map_key(name, FASEG_RULES)
    assert found is not None, name
    return found[0]


def decoder_names(names: list[str]) -> list[str]:
    """Returns our names of the parameters of the decoder."""
    return [
        our_name('sem_seg_head.predictor.' + name).removeprefix(DECODER)
        for name in names
    ]
