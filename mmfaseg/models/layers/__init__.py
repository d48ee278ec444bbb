"""Layers of FASeg: plain arguments, torch, mmfaseg.ops and the registry."""

from .attention import MultiheadAttention
from .decoder_output import BlockTrace, DecoderOutput
from .deformable_encoder import (
    DeformableEncoder,
    MultiScaleDeformableAttention,
)
from .dfpq import BoxAwareFocusQuery, DynamicFocusAwareQuery
from .dfpq_decoder_layer import (
    DFPQDecoderLayer,
    MaskedCrossAttention,
    TokenMemory,
)
from .faseg_decoder import FASegDecoder
from .hrca import (
    DenseCrossAttention,
    HighResolutionCrossAttention,
    PerQueryWindowAttention,
    WindowFocus,
    WindowMemory,
)
from .mask_predictor import MaskPredictions, MaskPredictor
from .positional_encoding import (
    ConditionalPositionalEncoding,
    LearnedPositionalEncoding,
    SinePositionalEncoding,
)
from .rival_queries import AnchorQuery, NoPositionalQuery, ParameterizedQuery

__all__ = [
    'AnchorQuery',
    'BlockTrace',
    'BoxAwareFocusQuery',
    'ConditionalPositionalEncoding',
    'DFPQDecoderLayer',
    'DecoderOutput',
    'DeformableEncoder',
    'DenseCrossAttention',
    'DynamicFocusAwareQuery',
    'FASegDecoder',
    'HighResolutionCrossAttention',
    'LearnedPositionalEncoding',
    'MaskPredictions',
    'MaskPredictor',
    'MaskedCrossAttention',
    'MultiScaleDeformableAttention',
    'MultiheadAttention',
    'NoPositionalQuery',
    'ParameterizedQuery',
    'PerQueryWindowAttention',
    'SinePositionalEncoding',
    'TokenMemory',
    'WindowFocus',
    'WindowMemory',
]
