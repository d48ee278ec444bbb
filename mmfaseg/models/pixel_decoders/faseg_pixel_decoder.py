"""Pixel decoder of FASeg.

Shapes: B batch size, C embed_dims, H_l x W_l the map of level l = 0, 1, 2, 3
with stride 32, 16, 8, 4.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from mmcv.cnn import build_norm_layer
from mmengine.model import BaseModule, ModuleList
from torch import Tensor, nn

from mmfaseg.registry import MODELS
from mmfaseg.utils.check_count import check_count
from mmfaseg.utils.mask2former_arguments import PIXEL_DECODER
from mmfaseg.utils.misplaced_arguments import reject_misplaced

from ..layers import DeformableEncoder
from ..layers.positional_encoding import (
    build_positional_encoding,
    encoding_needs_feature,
)

NUM_STAGES = 4
CHANNELS_LAST = torch.channels_last


@MODELS.register_module()
class FASegPixelDecoder(BaseModule):
    """Mask2Former's pixel decoder with four levels and positional encodings.

    All four backbone stages are projected, and the positional encoding K_p of
    each level is computed from its projection (FASeg, section 3.2). With
    ``positional_encoding=dict(type='mmfaseg.SinePositionalEncoding')`` and
    ``num_levels=3`` this is Mask2Former's pixel decoder.

    Args:
        in_channels (Sequence[int]): channels of the backbone stages with
            stride 4, 8, 16, 32.
        embed_dims (int): number of channels, C; a multiple of ``num_heads``.
        norm_cfg (dict): config of the norm after every convolution; for GN,
            ``num_groups`` must divide C.
        positional_encoding (dict): config of a :class:`PositionalEncoding`,
            to which ``embed_dims`` is added, or of an encoding of mmdet.
        mask_channels (int, optional): channels of the mask features, C by
            default.
        num_layers (int): number of layers of the deformable encoder.
        num_heads (int): number of heads of the deformable attention.
        num_points (int): number of sampling points per level and head.
        feedforward_channels (int): hidden channels of the encoder's FFN.
        num_levels (int): number of output levels: 4, or 3 if no decoder layer
            attends to stride 4.
        with_cp (bool): use gradient checkpointing in the encoder.

    Raises:
        TypeError: if ``norm_cfg`` is not a config.
        ValueError: if ``in_channels`` does not have four entries,
            ``num_groups`` does not divide ``embed_dims``, or another argument
            is out of range.
    """

    @reject_misplaced(PIXEL_DECODER)
    def __init__(
        self,
        in_channels: Sequence[int],
        embed_dims: int,
        norm_cfg: dict,
        positional_encoding: dict,
        mask_channels: int | None = None,
        num_layers: int = 6,
        num_heads: int = 8,
        num_points: int = 4,
        feedforward_channels: int = 1024,
        num_levels: int = NUM_STAGES,
        with_cp: bool = False,
    ) -> None:
        super().__init__()
        if not isinstance(norm_cfg, dict):
            raise TypeError(
                "norm_cfg must be a config such as dict(type='GN', "
                f'num_groups=32), got {norm_cfg!r}'
            )
        if len(in_channels) != NUM_STAGES:
            raise ValueError(
                'in_channels must have four entries (strides 4, 8, 16, 32), '
                f'got {list(in_channels)}'
            )
        num_groups = norm_cfg.get('num_groups', 1)
        check_count('norm_cfg.num_groups', num_groups)
        if mask_channels is None:
            mask_channels = embed_dims
        check_count('mask_channels', mask_channels)
        if embed_dims % num_groups:
            raise ValueError(
                f'embed_dims={embed_dims} must be a multiple of '
                f'norm_cfg.num_groups={num_groups}'
            )
        if num_levels not in (NUM_STAGES - 1, NUM_STAGES):
            raise ValueError(f'num_levels must be 3 or 4, got {num_levels}')
        self.in_channels = tuple(in_channels)
        self.num_levels = num_levels
        # only the positional encoding uses the projection of C2
        needs_feature = encoding_needs_feature(positional_encoding)
        projected = num_levels if needs_feature else NUM_STAGES - 1
        # in the order of the levels, stride 32 first
        self.input_projs = nn.ModuleList(
            _conv_norm(channels, embed_dims, 1, norm_cfg)
            for channels in self.in_channels[: -projected - 1 : -1]
        )
        self.positional_encodings = ModuleList(
            build_positional_encoding(positional_encoding, embed_dims)
            for _ in range(num_levels)
        )
        self.encoder = DeformableEncoder(
            embed_dims,
            num_layers,
            feedforward_channels,
            num_heads,
            num_levels=NUM_STAGES - 1,
            num_points=num_points,
            with_cp=with_cp,
        )
        self.lateral_conv = _conv_norm(
            self.in_channels[0], embed_dims, 1, norm_cfg, bias=False
        )
        self.output_conv = nn.Sequential(
            *_conv_norm(embed_dims, embed_dims, 3, norm_cfg, bias=False),
            nn.ReLU(inplace=True),
        )
        self.mask_feature = nn.Conv2d(embed_dims, mask_channels, 1)
        nn.init.kaiming_uniform_(self.mask_feature.weight, a=1)

    def forward(
        self, feats: Sequence[Tensor]
    ) -> tuple[list[Tensor], list[Tensor], Tensor]:
        """Returns memories, positional encodings and mask features.

        Maps use the channels-last memory format, in which tokens are views of
        the maps and windows are contiguous. If GroupNorm on CUDA
        does not preserve the format, additional copies are made.

        Args:
            feats (Sequence[Tensor]): backbone stages, strides 4, 8, 16, 32.

        Returns:
            tuple[list[Tensor], list[Tensor], Tensor]: memories and K_p of
            levels 0 to ``num_levels - 1``, each (B, C, H_l, W_l), and mask
            features, (B, mask_channels, H_3, W_3).

        Raises:
            TypeError: if ``feats`` is a single tensor.
            ValueError: if the channels differ from ``in_channels``.
        """
        if isinstance(feats, Tensor):
            raise TypeError(
                'the backbone returns a single tensor, but must return four '
                'stages with strides 4, 8, 16 and 32'
            )
        channels = tuple(x.size(1) for x in feats)
        if len(channels) != NUM_STAGES:
            raise ValueError(
                f'the backbone returns {len(channels)} stages, with '
                f'{channels} channels: set backbone.out_indices to the stages '
                'with strides 4, 8, 16 and 32'
            )
        if channels != self.in_channels:
            heights = [x.size(2) for x in feats]
            if heights != sorted(heights, reverse=True):
                raise ValueError(
                    'the backbone must return the stages with strides 4, 8, '
                    f'16 and 32 in this order, got maps of {heights} rows'
                )
            raise ValueError(
                f'the backbone returns stages with {channels} channels, but '
                f'in_channels={self.in_channels}: set '
                f'decode_head.in_channels={list(channels)}'
            )
        feats = [x.contiguous(memory_format=CHANNELS_LAST) for x in feats]
        projected = [
            project(x)
            for project, x in zip(
                self.input_projs, reversed(feats), strict=False
            )
        ]
        # if stride 4 is not projected, only its size is used
        sources = [*projected, feats[0]][: self.num_levels]
        positions = [
            encode(x)
            for encode, x in zip(
                self.positional_encodings, sources, strict=True
            )
        ]
        encoded = slice(NUM_STAGES - 1)
        memories = self.encoder(projected[encoded], positions[encoded])
        lateral = self.lateral_conv(feats[0])
        upsampled = F.interpolate(
            memories[-1], lateral.shape[2:], mode='bilinear'
        )
        finest = self.output_conv(upsampled.add_(lateral))
        memories = [*memories, finest][: self.num_levels]
        return memories, positions, self.mask_feature(finest)


def _conv_norm(
    in_channels: int,
    out_channels: int,
    kernel_size: int,
    norm_cfg: dict,
    bias: bool = True,
) -> nn.Sequential:
    conv = nn.Conv2d(
        in_channels,
        out_channels,
        kernel_size,
        padding=kernel_size // 2,
        bias=bias,
    )
    if conv.bias is None:  # FPN, initialized as in Mask2Former
        nn.init.kaiming_uniform_(conv.weight, a=1)
    else:  # input projection, initialized as in Deformable DETR
        nn.init.xavier_uniform_(conv.weight)
        nn.init.zeros_(conv.bias)
    return nn.Sequential(conv, build_norm_layer(norm_cfg, out_channels)[1])
