"""A tiny network whose outputs were recorded when the parity tests passed.

``python tests/golden_network.py`` records tests/data/golden_tiny.npz again. Do
this only after an intended change of the method, when test_parity.py passes.
"""

import hashlib
import math
from pathlib import Path

import numpy as np
import torch
from parity_cases import Watch, replace_points
from torch import Tensor, nn

from mmfaseg.models import FASegHead
from mmfaseg.models.task_modules import MaskTargets
from mmfaseg.visualization.decoder_trace import trace_decoder

GOLDEN = Path(__file__).parent / 'data' / 'golden_tiny.npz'
CHANNELS = (4, 6, 8, 10)
HEIGHT, WIDTH = 64, 128  # 2 x 4 stride-32 pixels
CLASSES, QUERIES, DIMS = 4, 6, 16
EMBEDDINGS = ('query_feat.weight', 'query_embed.weight', 'level_embed.weight')
GAINS = {
    'cross_attn.attn.in_proj_weight': 2.0,
    'cross_attn.attn.out_proj.weight': 0.5,
    'class_embed.weight': 3.0,
    'mask_embed.4.weight': 3.0,
    'mask_feature.bias': 4.0,  # some masks are empty, some full
}


def draw(name: str, shape: tuple[int, ...], uniform: bool = False) -> Tensor:
    """Returns float64 values that depend only on the name."""
    seed = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], 'big')
    generator = np.random.default_rng(seed)
    numbers = generator.random if uniform else generator.standard_normal
    return torch.from_numpy(numbers(shape))


def fill(model: nn.Module) -> None:
    """Sets each parameter to values that depend only on its name."""
    for name, parameter in model.named_parameters():
        value = draw(name, tuple(parameter.shape))
        if name.endswith('sampling_offsets.bias'):
            value *= 2
        elif name.endswith('bias'):
            value *= 0.1
        elif value.dim() == 1:
            value = 1 + 0.1 * value
        elif not name.endswith(EMBEDDINGS):
            value /= math.sqrt(value[0].numel())
        for part, gain in GAINS.items():
            if name.endswith(part):
                value *= gain
        parameter.data.copy_(value)


def build() -> FASegHead:
    """Returns the head, float64, in training mode."""
    head = FASegHead(
        in_channels=CHANNELS,
        num_classes=CLASSES,
        feat_channels=DIMS,
        num_queries=QUERIES,
        pixel_decoder=dict(
            type='mmfaseg.FASegPixelDecoder',
            num_layers=2,
            num_heads=2,
            num_points=2,
            feedforward_channels=24,
            norm_cfg=dict(type='GN', num_groups=4),
            positional_encoding=dict(
                type='mmfaseg.ConditionalPositionalEncoding'
            ),
        ),
        transformer_decoder=dict(
            type='mmfaseg.FASegDecoder',
            layer=dict(
                type='mmfaseg.DFPQDecoderLayer',
                num_heads=2,
                feedforward_channels=24,
            ),
            positional_query=dict(type='mmfaseg.DynamicFocusAwareQuery'),
            masked_attention=dict(type='mmfaseg.MaskedCrossAttention'),
            high_res_attention=dict(
                type='mmfaseg.HighResolutionCrossAttention', omega=4
            ),
        ),
        loss=dict(type='mmfaseg.MaskClassificationLoss', num_points=40),
    ).double()
    fill(head)
    return head.train()


def make_feats() -> list[Tensor]:
    """Returns backbone stages of two images, strides 4 to 32."""
    return [
        draw(
            f'stage {stride}',
            (2, channels, HEIGHT // stride, WIDTH // stride),
        )
        for channels, stride in zip(CHANNELS, (4, 8, 16, 32), strict=True)
    ]


def make_targets() -> list[MaskTargets]:
    """Returns the targets of two images; the second has unlabeled rows."""
    maps = torch.zeros(2, HEIGHT, WIDTH, dtype=torch.int64)
    maps[0, :, 50:] = 3
    maps[0, 20:50, 30:90] = 1
    maps[1, 30:] = 2
    targets = []
    for labels in maps:
        classes = labels.unique()
        masks = labels == classes[:, None, None]
        targets.append(MaskTargets(classes, masks))
    targets[1].ignored = torch.zeros(HEIGHT, WIDTH, dtype=torch.bool)
    targets[1].ignored[:8] = True
    return targets


def compute(replace) -> dict[str, np.ndarray]:
    """Returns all values that are compared.

    Args:
        replace (Callable): Sets an attribute of a module, like pytest's
            ``monkeypatch.setattr``.
    """
    calls = iter(range(10**6))

    def draw_points(shape: tuple[int, int], device: torch.device) -> Tensor:
        return draw(f'points {next(calls)}', (*shape, 2), uniform=True)

    replace_points(replace, draw_points)
    head = build()
    feats = [x.requires_grad_() for x in make_feats()]
    memories, positions, mask_features = head.pixel_decoder(feats)
    watch = Watch(head.transformer_decoder)
    output = trace_decoder(
        head.transformer_decoder, memories, positions, mask_features
    )
    losses = head.loss_module(
        output.cls_scores, output.mask_preds, make_targets()
    )
    sum(losses.values()).backward()
    gradients = [x.grad.norm() for x in (*head.parameters(), *feats)]
    traces = output.traces
    blocked = list(watch.blocked.values())
    importance = list(watch.importance.values())
    head.eval()
    with torch.no_grad():
        scores = head.predict(feats, [dict(img_shape=(HEIGHT, WIDTH))], {})
    found = dict(
        pool=watch.pools[0],
        blocked=[x.sum(-1) for x in blocked],
        importance=importance,
        memories=[x.abs().mean((2, 3)) for x in memories],
        positions=[x.abs().mean((2, 3)) for x in positions],
        mask_features=mask_features[:, :, ::4, ::4],
        cls_scores=output.cls_scores,
        mask_preds=[x[:, :, ::4, ::4] for x in output.mask_preds],
        query_pos=[trace.query_pos for trace in traces],
        looked=[x.attention.amax(-1) for x in traces if x.level < 3],
        windows=[x.window_index for x in traces if x.level == 3],
        losses=list(losses.values()),
        gradients=gradients,
        scores=scores[:, :, ::8, ::8],
    )
    return {
        name: (torch.stack(x) if isinstance(x, list) else x).detach().numpy()
        for name, x in found.items()
    }


if __name__ == '__main__':
    GOLDEN.parent.mkdir(exist_ok=True)
    np.savez_compressed(GOLDEN, **compute(setattr))
