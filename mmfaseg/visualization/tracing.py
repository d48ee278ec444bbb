"""An image as the network sees it, and where the decoder layers attend."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from mmengine.dataset import pseudo_collate

from .decoder_trace import can_trace, trace_head
from .input_image import inputs_to_image

if TYPE_CHECKING:
    from mmengine.model import BaseModel, BaseModule

    from .decoder_trace import DecoderTrace


@dataclass(frozen=True)
class TracedImage:
    """One image and the trace of its decoder.

    Attributes:
        image (np.ndarray): uint8, shape (H, W, 3), RGB, unpadded.
        head (BaseModule): head of the model.
        output (DecoderTrace): result of :func:`trace_head`.
        min_score (float): pixels with a lower best score have no class, as
            the background of a detector.
    """

    image: np.ndarray
    head: BaseModule
    output: DecoderTrace
    min_score: float


def find_traceable_head(model: BaseModel) -> BaseModule:
    """Returns the head of a model, whose decoder can be traced.

    Raises:
        ValueError: if it has no :class:`FASegDecoder`.
    """
    head = getattr(model, 'panoptic_head', None)
    if head is None:
        head = getattr(model, 'decode_head', None)
    if not can_trace(head):
        name = type(model if head is None else head).__name__
        raise ValueError(
            f'{name} has no FASegDecoder to trace: use a config of mmfaseg; '
            "faseg2mmfaseg.py converts Mask2Former's checkpoints to one with "
            'mmfaseg.LearnedPositionalQuery'
        )
    return head


@torch.no_grad()
def trace_item(model: BaseModel, item: dict) -> TracedImage:
    """Runs a model on one image and traces its decoder.

    Args:
        model (BaseModel): segmentor or detector in evaluation mode.
        item (dict): output of the test pipeline.

    Raises:
        ValueError: if the head has no :class:`FASegDecoder`.
    """
    head = find_traceable_head(model)
    batch = model.data_preprocessor(pseudo_collate([item]), False)
    return TracedImage(
        image=inputs_to_image(item['inputs']),
        head=head,
        output=trace_head(head, model.extract_feat(batch['inputs'])),
        min_score=0.5 if hasattr(model, 'panoptic_head') else 0.0,
    )
