"""A picture as a network sees it, and where its blocks look."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from mmengine.dataset import pseudo_collate

from .input_image import inputs_to_image

if TYPE_CHECKING:
    from mmengine.model import BaseModel, BaseModule

    from mmfaseg.models.layers import DecoderOutput


@dataclass(frozen=True)
class TracedPicture:
    """One picture, looked at.

    Attributes:
        picture (np.ndarray): uint8, shape (H, W, 3), RGB, unpadded.
        head (BaseModule): of the network.
        output (DecoderOutput): what its ``trace`` returned.
        min_score (float): a pixel whose best class scores less has none:
            detectors leave ground between objects.
    """

    picture: np.ndarray
    head: BaseModule
    output: DecoderOutput
    min_score: float


def head_of(model: BaseModel) -> BaseModule:
    """Returns the head whose queries look.

    Raises:
        ValueError: if there is none, or it cannot tell where they look.
    """
    head = getattr(model, 'panoptic_head', None)
    if head is None:
        head = getattr(model, 'decode_head', None)
    if not hasattr(head, 'trace'):
        name = type(model if head is None else head).__name__
        raise ValueError(
            f'{name} cannot tell where its queries look: take a config of '
            "mmfaseg; faseg2mmfaseg.py brings Mask2Former's checkpoints to "
            'one with positional_query="parameterized"'
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
        output=head.trace(model.extract_feat(batch['inputs'])),
        min_score=0.5 if hasattr(model, 'panoptic_head') else 0.0,
    )
