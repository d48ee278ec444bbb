"""Layers of FASeg: plain arguments, torch, mmfaseg.ops and the registry."""

from .attention import MultiheadAttention
from .deformable_encoder import (
    DeformableEncoder,
    MultiScaleDeformableAttention,
)
from .dfpq import DynamicFocusAwareQuery
from .dfpq_decoder_layer import (
    DFPQDecoderLayer,
    MaskedCrossAttention,
    TokenMemory,
)
from .faseg_decoder import BlockTrace, DecoderOutput, FASegDecoder
from .hrca import HighResolutionCrossAttention, WindowMemory
from .mask_predictor import MaskPredictions, MaskPredictor
from .positional_encoding import ConditionalPositionalEncoding

__all__ = [
    'BlockTrace',
    'ConditionalPositionalEncoding',
    'DFPQDecoderLayer',
    'DecoderOutput',
    'DeformableEncoder',
    'DynamicFocusAwareQuery',
    'FASegDecoder',
    'HighResolutionCrossAttention',
    'MaskPredictions',
    'MaskPredictor',
    'MaskedCrossAttention',
    'MultiScaleDeformableAttention',
    'MultiheadAttention',
    'TokenMemory',
    'WindowMemory',
]
