import pytest
import torch
import torch.nn.functional as F
from decoder_parts import CONDITIONAL, SINE
from mmdet.models.layers import SinePositionalEncoding as MMDetSine

from mmfaseg.models.layers import (
    LearnedPositionalEncoding,
    SinePositionalEncoding,
)
from mmfaseg.models.layers.positional_encoding import (
    build_positional_encoding,
    encoding_needs_feature,
)
from mmfaseg.testing import assert_close

MMDET = dict(type='mmdet.SinePositionalEncoding', normalize=True)


@pytest.mark.parametrize('size', [(4, 6), (1, 1), (33, 17)])
def test_sine_encoding_equals_that_of_mmdet(size):
    theirs = MMDetSine(num_feats=8, normalize=True)
    expected = theirs(torch.zeros(2, *size, dtype=torch.bool))
    feature = torch.zeros(2, 16, *size)
    found = SinePositionalEncoding(16)(feature)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)
    adapted = build_positional_encoding(dict(MMDET, num_feats=8), 16)
    assert torch.equal(adapted(feature), expected)


def test_learned_encoding_is_resized():
    encoding = LearnedPositionalEncoding(8, size=6).double()
    found = encoding(torch.zeros(3, 8, 12, 9, dtype=torch.float64))
    assert found.shape == (3, 8, 12, 9)
    expected = F.interpolate(
        encoding.learned_pos_embed,
        (12, 9),
        mode='bicubic',
        align_corners=False,
    )
    assert_close(found[2:], expected)
    same = encoding(torch.zeros(1, 8, 6, 6, dtype=torch.float64))
    assert_close(same, encoding.learned_pos_embed)


def test_only_the_conditional_encoding_needs_the_feature():
    assert encoding_needs_feature(CONDITIONAL)
    assert not encoding_needs_feature(SINE)
    assert not encoding_needs_feature(MMDET)


def test_invalid_encodings_raise():
    with pytest.raises(TypeError, match=r"must be a config.*'sine'"):
        build_positional_encoding('sine', 16)
    with pytest.raises(KeyError, match=r"no class 'mmfaseg\.Cosine'"):
        build_positional_encoding(dict(type='mmfaseg.Cosine'), 16)
    sine = dict(type='mmfaseg.SinePositionalEncoding', embed_dims=8)
    with pytest.raises(ValueError, match='remove embed_dims'):
        build_positional_encoding(sine, 16)
    with pytest.raises(ValueError, match='embed_dims=6'):
        SinePositionalEncoding(6)
    adapted = build_positional_encoding(dict(MMDET, num_feats=16), 16)
    with pytest.raises(ValueError, match=r'32 channels.*set num_feats=8'):
        adapted(torch.zeros(1, 16, 2, 3))


def test_out_of_memory_is_not_reported_as_a_wrong_interface():
    adapted = build_positional_encoding(dict(MMDET, num_feats=8), 16)

    def fail(mask):
        raise torch.OutOfMemoryError('CUDA out of memory')

    adapted.encoding.forward = fail
    with pytest.raises(torch.OutOfMemoryError):
        adapted(torch.zeros(1, 16, 2, 3))
