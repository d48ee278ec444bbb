"""Backbones of mmseg are exported for any batch and image size."""

import pytest
import torch
from mmengine.registry import MODELS, DefaultScope
from torch import nn
from torch.export import Dim

from mmfaseg.export.symbolic import symbolic_sizes

SWIN = dict(
    type='SwinTransformer',
    embed_dims=8,
    depths=(2, 2),
    num_heads=(1, 2),
    strides=(4, 2),
    out_indices=(0, 1),
    window_size=7,
)
HRNET = dict(
    type='HRNet',
    norm_cfg=dict(type='BN'),
    extra={
        f'stage{n}': dict(
            num_modules=1,
            num_branches=n,
            block='BASIC' if n > 1 else 'BOTTLENECK',
            num_blocks=(1,) * n,
            num_channels=tuple(4 * 2**i for i in range(n)),
        )
        for n in range(1, 5)
    },
)
MIT = dict(
    type='MixVisionTransformer',
    embed_dims=8,
    num_layers=[1, 1, 1, 1],
    num_heads=[1, 1, 1, 1],
)
MOBILENET = dict(
    type='MobileNetV2', widen_factor=0.25, out_indices=(1, 2, 4, 6)
)
VIT = dict(
    type='VisionTransformer',
    img_size=(64, 96),
    embed_dims=8,
    num_layers=2,
    num_heads=1,
    out_indices=(0, 1),
)
SVT = dict(
    type='SVT',
    embed_dims=[8, 8],
    num_heads=[1, 1],
    mlp_ratios=[1, 1],
    out_indices=(0, 1),
    depths=[2, 1],  # every second layer has global attention
    sr_ratios=[8, 4],
    patch_sizes=[4, 8],
    strides=[4, 8],  # maps smaller than a window
    windiow_sizes=[7, 7],  # spelled so in mmseg
    norm_after_stage=[True, True],
)


def build(cfg):
    """A backbone in evaluation mode, with random weights."""
    torch.manual_seed(0)
    with DefaultScope.overwrite_default_scope('mmseg'):
        backbone = MODELS.build(cfg)
    for parameter in backbone.parameters():
        nn.init.normal_(parameter, std=0.2)
    backbone.eval()  # returns None in Swin
    return backbone


@pytest.mark.parametrize('shape', [(1, 3, 64, 96), (2, 3, 224, 256)])
@pytest.mark.parametrize('window_size', [7, 12])
def test_gathered_windows_of_swin_are_bit_equal(shape, window_size):
    backbone = build(dict(SWIN, window_size=window_size))
    image = torch.rand(shape)
    with torch.no_grad():
        expected = backbone(image)
        with symbolic_sizes():
            found = backbone(image)
    assert len(found) == 2
    assert all(map(torch.equal, found, expected))


@pytest.mark.parametrize('padding', ['same', 'corner'])
@pytest.mark.parametrize('stride', [1, 2, 4])
def test_padding_is_equal(padding, stride):
    from mmseg.models.utils.embed import AdaptivePadding

    layer = AdaptivePadding(3, stride, (1, 2), padding)
    for height in range(1, 9):
        size = (height, 3 * height + 1)
        expected = layer.get_pad_shape(size)
        with symbolic_sizes():
            assert layer.get_pad_shape(size) == expected


@pytest.mark.parametrize(
    'settings',
    [
        dict(scale_factor=4),
        dict(scale_factor=1.5),
        dict(size=(7, 9)),
    ],
)
def test_upsampling_is_bit_equal(settings):
    from mmseg.models.utils.wrappers import Upsample

    layer = Upsample(**settings, mode='bilinear', align_corners=False)
    maps = torch.rand(2, 3, 6, 5)
    expected = layer(maps)
    with symbolic_sizes():
        assert torch.equal(layer(maps), expected)


def export(backbone):
    """Traces a backbone for any batch and image size."""
    shape = {
        0: Dim('batch', min=1, max=16),
        2: 32 * Dim('height', min=1, max=64),
        3: 32 * Dim('width', min=1, max=64),
    }
    with symbolic_sizes(), torch.no_grad():
        return torch.export.export(
            backbone,
            (torch.rand(2, 3, 256, 352),),
            dynamic_shapes=(shape,),
            strict=False,
        )


def assert_equal_at_other_sizes(backbone, run):
    for size in ((1, 3, 64, 96), (3, 3, 192, 64), (2, 3, 352, 256)):
        image = torch.rand(size)
        with torch.no_grad():
            expected, found = backbone(image), run(image)
        assert len(found) == len(expected)
        for first, second in zip(found, expected, strict=True):
            torch.testing.assert_close(first, second, rtol=1e-4, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize(
    'cfg', [SWIN, HRNET, MIT, MOBILENET, VIT, SVT], ids=lambda x: x['type']
)
def test_exported_backbone_supports_other_batches_and_sizes(cfg):
    backbone = build(cfg)
    graph = export(backbone).module(check_guards=False)
    assert_equal_at_other_sizes(backbone, graph)


@pytest.mark.slow
def test_swin_runs_in_onnxruntime(tmp_path):
    onnxruntime = pytest.importorskip('onnxruntime')
    pytest.importorskip('onnxscript')
    backbone = build(dict(SWIN, depths=(1, 2)))
    for parameter in backbone.parameters():
        nn.init.normal_(parameter, std=0.05)  # outputs near 1
    path = tmp_path / 'swin.onnx'
    torch.onnx.export(export(backbone), dynamo=True, verbose=False).save(
        str(path)
    )
    session = onnxruntime.InferenceSession(
        str(path), providers=['CPUExecutionProvider']
    )
    (image,) = session.get_inputs()

    def run(images):
        found = session.run(None, {image.name: images.numpy()})
        return [torch.from_numpy(x) for x in found]

    assert_equal_at_other_sizes(backbone, run)
