"""Mask2Former's pixel decoder with mmfaseg's deformable attention."""

from typing import Any

import torch
from mmcv.ops import MultiScaleDeformableAttention
from mmdet.models.layers import (
    MSDeformAttnPixelDecoder as MMDetPixelDecoder,
)
from torch import Tensor
from typing_extensions import override

from mmfaseg.ops import ms_deform_attn
from mmfaseg.registry import MODELS


class CompiledMultiScaleDeformableAttention(MultiScaleDeformableAttention):
    """mmcv's deformable attention with :func:`mmfaseg.ops.ms_deform_attn`."""

    @override
    def forward(
        self,
        query: Tensor,
        key: Tensor | None = None,
        value: Tensor | None = None,
        identity: Tensor | None = None,
        query_pos: Tensor | None = None,
        key_padding_mask: Tensor | None = None,
        reference_points: Tensor | None = None,
        spatial_shapes: Tensor | None = None,
        level_start_index: Tensor | None = None,
        **others: Any,
    ) -> Tensor:
        if reference_points is None or spatial_shapes is None:
            raise ValueError(
                'reference_points and spatial_shapes are required'
            )
        value = query if value is None else value
        identity = query if identity is None else identity
        if query_pos is not None:
            query = query + query_pos
        if not self.batch_first:
            query, value = query.transpose(0, 1), value.transpose(0, 1)
        value = self.value_proj(value)
        if key_padding_mask is not None:
            value = value.masked_fill(key_padding_mask[..., None], 0)
        per_head = (self.num_heads, self.num_levels, self.num_points)
        weights = self.attention_weights(query).unflatten(
            2, (self.num_heads, -1)
        )
        output = ms_deform_attn(
            value.unflatten(2, (self.num_heads, -1)),
            [(height, width) for height, width in spatial_shapes.tolist()],
            _sampling_locations(
                self.sampling_offsets(query).unflatten(2, (*per_head, 2)),
                reference_points,
                spatial_shapes,
            ),
            weights.softmax(-1).unflatten(3, per_head[1:]),
        )
        output = self.output_proj(output)
        if not self.batch_first:
            output = output.transpose(0, 1)
        return self.dropout(output) + identity


def _sampling_locations(
    offsets: Tensor, reference_points: Tensor, spatial_shapes: Tensor
) -> Tensor:
    """Returns (x, y) of all samples in [0, 1], (B, N, h, n_l, P, 2)."""
    points = reference_points[:, :, None, :, None]  # (B, N, 1, n_l, 1, 2 or 4)
    if points.size(-1) == 2:
        # offsets are in pixels of the sampled level
        return points + offsets / spatial_shapes.flip(1)[:, None]
    if points.size(-1) == 4:
        # offsets are relative to half the size of the box
        steps = offsets / offsets.size(-2) * points[..., 2:] * 0.5
        return points[..., :2] + steps
    raise ValueError(
        'the last dimension of reference_points must be 2 or 4, got '
        f'{reference_points.size(-1)}'
    )


@MODELS.register_module()
class MSDeformAttnPixelDecoder(MMDetPixelDecoder):
    """MMDetection's pixel decoder with mmfaseg's deformable attention.

    Use it in a Mask2Former of MMSegmentation or MMDetection with
    ``pixel_decoder=dict(type='mmfaseg.MSDeformAttnPixelDecoder')``. The
    arguments and parameter names are those of
    ``mmdet.MSDeformAttnPixelDecoder``.
    """

    def __init__(self, **arguments: Any) -> None:
        super().__init__(**arguments)
        for layer in self.encoder.layers:
            # preserve the random state, so that weights initialized later
            # equal those of mmdet's pixel decoder
            with torch.random.fork_rng(devices=[]):
                attention = CompiledMultiScaleDeformableAttention(
                    **layer.self_attn_cfg
                )
            attention.load_state_dict(layer.self_attn.state_dict())
            layer.self_attn = attention
