"""The two decoders that the heads of all tasks are made of."""

from collections.abc import Sequence

from torch import nn

from mmfaseg.registry import MODELS


def build_decoders(
    pixel_decoder: dict,
    transformer_decoder: dict,
    in_channels: Sequence[int],
    feat_channels: int,
    num_classes: int,
    num_queries: int,
) -> tuple[nn.Module, nn.Module]:
    """Returns a pixel decoder and the transformer decoder that reads it.

    Args:
        pixel_decoder (dict): config; gets ``in_channels``, ``embed_dims`` and
            ``num_levels`` from here: 3 where the transformer decoder's
            ``high_resolution`` is ``'off'``, else 4.
        transformer_decoder (dict): config; gets ``embed_dims``,
            ``num_classes`` and ``num_queries`` from here.
        in_channels (Sequence[int]): channels of the backbone stages with
            stride 4, 8, 16, 32.
        feat_channels (int): width of both decoders.
        num_classes (int): classes, without "no object".
        num_queries (int): queries.
    """
    reads_stride_4 = transformer_decoder.get('high_resolution') != 'off'
    pixels = MODELS.build(
        dict(
            **pixel_decoder,
            in_channels=tuple(in_channels),
            embed_dims=feat_channels,
            num_levels=4 if reads_stride_4 else 3,
        )
    )
    queries = MODELS.build(
        dict(
            **transformer_decoder,
            embed_dims=feat_channels,
            num_classes=num_classes,
            num_queries=num_queries,
        )
    )
    return pixels, queries
