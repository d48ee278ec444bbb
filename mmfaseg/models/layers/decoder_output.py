"""What the decoder gives: predictions, and where its blocks looked.

Shapes:
    B: batch size.
    Q: number of queries.
    C: embed_dims.
    K: number of classes.
    H_l, W_l: the map of level l = 0, 1, 2, 3 with stride 32, 16, 8, 4.
"""

from dataclasses import dataclass, field

from torch import Tensor

from .mask_predictor import MaskPredictions


@dataclass
class BlockTrace:
    """Where one block looked.

    Attributes:
        block (int): number of the block, from 0.
        level (int): its level; strides 32, 16, 8, 4.
        shape (tuple[int, int]): (H_l, W_l).
        query_pos (Tensor): positional query of its cross-attention, shape
            (B, Q, C).
        position (Tensor): K_p of its level, shape (B, C, H_l, W_l).
        attention (Tensor): head-averaged cross-attention, shape
            (B, Q, H_l * W_l); zero outside of the windows that were read.
        window_index (Tensor | None): chosen windows, most important first,
            int64, shape (B, number of windows), row-major in
            ``window_grid``; only in a block that reads windows. With a
            choice per query: (B, Q, number of windows).
        window_grid (tuple[int, int] | None): (H_0, W_0).
        window_size (int | None): pixels of the stride-4 map per side.
        importance_level (int | None): level whose attention chose windows.
    """

    block: int
    level: int
    shape: tuple[int, int]
    query_pos: Tensor
    position: Tensor
    attention: Tensor
    window_index: Tensor | None = None
    window_grid: tuple[int, int] | None = None
    window_size: int | None = None
    importance_level: int | None = None


@dataclass
class DecoderOutput:
    """Predictions, from the first to the last.

    Attributes:
        cls_scores (list[Tensor]): class logits, each (B, Q, K + 1), the last
            class is "no object".
        mask_preds (MaskPredictions): mask logits, each (B, Q, H_3, W_3),
            formed when they are read.
        traces (list[BlockTrace]): one per block if asked for, else empty.
    """

    cls_scores: list[Tensor]
    mask_preds: MaskPredictions
    traces: list[BlockTrace] = field(default_factory=list)
