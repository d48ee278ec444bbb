"""Layers of the FASeg decoders."""

from .attention import MultiheadAttention
from .cross_attention import CrossAttention, MaskedCrossAttention
from .deformable_encoder import (
    DeformableEncoder,
    MultiScaleDeformableAttention,
)
from .dfpq import DynamicFocusAwareQuery, PositionalQuery
from .dfpq_decoder_layer import DFPQDecoderLayer
from .faseg_decoder import FASegDecoder
from .feature_level import DecoderState, FeatureLevel
from .hrca import HighResolutionCrossAttention, scatter_windows, sum_windows
from .hrca_variants import DenseCrossAttention, PerQueryWindowAttention
from .mask_predictor import DecoderOutput, MaskPredictions, MaskPredictor
from .positional_encoding import (
    ConditionalPositionalEncoding,
    LearnedPositionalEncoding,
    PositionalEncoding,
    SinePositionalEncoding,
)
from .query_variants import (
    AnchorPositionalQuery,
    BoxAwareFocusQuery,
    LearnedPositionalQuery,
    NoPositionalQuery,
)

__all__ = [
    'AnchorPositionalQuery',
    'BoxAwareFocusQuery',
    'ConditionalPositionalEncoding',
    'CrossAttention',
    'DFPQDecoderLayer',
    'DecoderOutput',
    'DecoderState',
    'DeformableEncoder',
    'DenseCrossAttention',
    'DynamicFocusAwareQuery',
    'FASegDecoder',
    'FeatureLevel',
    'HighResolutionCrossAttention',
    'LearnedPositionalEncoding',
    'LearnedPositionalQuery',
    'MaskPredictions',
    'MaskPredictor',
    'MaskedCrossAttention',
    'MultiScaleDeformableAttention',
    'MultiheadAttention',
    'NoPositionalQuery',
    'PerQueryWindowAttention',
    'PositionalEncoding',
    'PositionalQuery',
    'SinePositionalEncoding',
    'scatter_windows',
    'sum_windows',
]
