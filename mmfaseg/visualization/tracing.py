"""A picture as a network sees it, and where its blocks look."""

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
class TracedPicture:
    """One picture, looked at.

    Attributes:
        picture (np.ndarray): uint8, shape (H, W, 3), RGB, unpadded.
        head (BaseModule): of the network.
        output (DecoderTrace): result of :func:`trace_head`.
        min_score (float): a pixel whose best class scores less has none:
            detectors leave ground between objects.
    """

    picture: np.ndarray
    head: BaseModule
    output: DecoderTrace
    min_score: float


def head_of(model: BaseModel) -> BaseModule:
    """Returns the head whose queries look.

    Raises:
        ValueError: if there is none, or it cannot tell where they look.
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
def trace_item(model: BaseModel, item: dict) -> TracedPicture:
    """Lets a network look at one picture.

    Args:
        model (BaseModel): segmentor or detector in evaluation mode.
        item (dict): what the test pipeline gives for the picture.

    Raises:
        ValueError: if the head cannot tell where its queries look.
    """
    head = head_of(model)
    batch = model.data_preprocessor(pseudo_collate([item]), False)
    return TracedPicture(
        picture=inputs_to_image(item['inputs']),
        head=head,
        output=trace_head(head, model.extract_feat(batch['inputs'])),
        min_score=0.5 if hasattr(model, 'panoptic_head') else 0.0,
    )
