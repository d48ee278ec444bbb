"""Mask2Former's pixel decoder with mmfaseg's deformable attention."""

from typing import Any

import torch
from mmcv.ops import MultiScaleDeformableAttention
from mmdet.models.layers import MSDeformAttnPixelDecoder as MMDetPixelDecoder
from torch import Tensor
from typing_extensions import override

from mmfaseg.ops import ms_deform_attn
from mmfaseg.registry import MODELS
from mmfaseg.utils.misplaced_arguments import reject_misplaced

REMEDY = (
    'use mmfaseg.FASegPixelDecoder in heads of mmfaseg; '
    'MSDeformAttnPixelDecoder is for Mask2FormerHead'
)


class CompiledMultiScaleDeformableAttention(MultiScaleDeformableAttention):
    """mmcv's deformable attention with :func:`mmfaseg.ops.ms_deform_attn`.

    As mmdet's encoder uses it: batch first, with points as references.
    """

    @override
    def forward(
        self,
        query: Tensor,
        *,
        value: Tensor,
        query_pos: Tensor,
        key_padding_mask: Tensor,
        reference_points: Tensor,
        spatial_shapes: Tensor,
        **others: Any,
    ) -> Tensor:
        identity, query = query, query + query_pos
        value = self.value_proj(value)
        value = value.masked_fill(key_padding_mask[..., None], 0)
        per_head = (self.num_heads, self.num_levels, self.num_points)
        # in pixels of the sampled level, (B, N, h, n_l, P, 2)
        offsets = self.sampling_offsets(query).unflatten(2, (*per_head, 2))
        weights = self.attention_weights(query).unflatten(
            2, (self.num_heads, -1)
        )
        output = ms_deform_attn(
            value.unflatten(2, (self.num_heads, -1)),
            [(height, width) for height, width in spatial_shapes.tolist()],
            reference_points[:, :, None, :, None]
            + offsets / spatial_shapes.flip(1)[:, None],
            weights.softmax(-1).unflatten(3, per_head[1:]),
        )
        return self.dropout(self.output_proj(output)) + identity


@MODELS.register_module()
class MSDeformAttnPixelDecoder(MMDetPixelDecoder):
    """MMDetection's pixel decoder with mmfaseg's deformable attention.

    Use it in a Mask2Former of MMSegmentation or MMDetection with
    ``pixel_decoder=dict(type='mmfaseg.MSDeformAttnPixelDecoder')``. The
    arguments and parameter names are those of
    ``mmdet.MSDeformAttnPixelDecoder``. The heads of mmfaseg require
    :class:`FASegPixelDecoder`.
    """

    @reject_misplaced({'embed_dims': REMEDY})  # set by heads of mmfaseg
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
