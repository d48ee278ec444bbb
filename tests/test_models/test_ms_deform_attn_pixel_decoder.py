import pytest
import torch
from mmcv.ops import MultiScaleDeformableAttention
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmseg.registry import MODELS

from mmfaseg.models.pixel_decoders.ms_deform_attn_pixel_decoder import (
    CompiledMultiScaleDeformableAttention,
)
from mmfaseg.testing import assert_close

CONFIG = 'configs/mask2former/mask2former_r18_1xb8-3k_shapes-128x128.py'
NUCLEI = 'configs/faseg/faseg_efficientnet-lite0_1xb4-1k_dsb2018-256x256.py'


def _mask2former(root, pixel_decoder):
    cfg = Config.fromfile(root / CONFIG)
    cfg.merge_from_dict(
        {'model.decode_head.pixel_decoder.type': pixel_decoder}
    )
    init_default_scope('mmseg')
    torch.manual_seed(0)
    model = MODELS.build(cfg.model.decode_head)
    model.init_weights()
    return model.double().eval()


def test_heads_of_mmfaseg_require_their_own_pixel_decoder(root):
    cfg = Config.fromfile(root / NUCLEI)
    cfg.model.decode_head.pixel_decoder = dict(
        type='mmfaseg.MSDeformAttnPixelDecoder'
    )
    init_default_scope('mmseg')
    with pytest.raises(TypeError, match=r'use mmfaseg\.FASegPixelDec'):
        MODELS.build(cfg.model.decode_head)


@pytest.mark.smoke
def test_mask2former_uses_it_by_one_key(root):
    theirs = _mask2former(root, 'mmdet.MSDeformAttnPixelDecoder')
    ours = _mask2former(root, 'mmfaseg.MSDeformAttnPixelDecoder')
    names = theirs.state_dict()
    assert names.keys() == ours.state_dict().keys()
    for name, value in ours.state_dict().items():  # one seed, one network
        assert torch.equal(value, names[name]), name
    attention = ours.pixel_decoder.encoder.layers[0].self_attn
    assert isinstance(attention, CompiledMultiScaleDeformableAttention)
    feats = [
        torch.randn(2, channels, 128 // stride, 96 // stride).double()
        for channels, stride in zip(
            (64, 128, 256, 512), (4, 8, 16, 32), strict=True
        )
    ]
    expected = theirs.pixel_decoder(feats)
    found = ours.pixel_decoder(feats)
    assert_close(found[0], expected[0])
    for one, two in zip(found[1], expected[1], strict=True):
        assert_close(one, two)


def test_layer_equals_that_of_mmcv():
    torch.manual_seed(0)
    settings = dict(
        embed_dims=16,
        num_heads=2,
        num_levels=2,
        dropout=0.0,
        batch_first=True,
    )
    theirs = MultiScaleDeformableAttention(**settings).double()
    for parameter in theirs.parameters():
        torch.nn.init.normal_(parameter)
    ours = CompiledMultiScaleDeformableAttention(**settings).double()
    ours.load_state_dict(theirs.state_dict())
    shapes = torch.tensor([[3, 4], [5, 2]])
    tokens = torch.randn(2, 22, 16).double()
    query, query_pos = torch.randn(2, 2, 7, 16).double()
    arguments = dict(
        query=query,
        value=tokens,
        query_pos=query_pos,
        key_padding_mask=torch.rand(2, 22) < 0.2,
        reference_points=torch.rand(2, 7, 2, 2).double(),
        spatial_shapes=shapes,
        level_start_index=torch.tensor([0, 12]),
    )
    assert_close(ours(**arguments), theirs(**arguments))
