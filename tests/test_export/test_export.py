"""Exported networks equal the segmentor."""

import importlib.util
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample

from mmfaseg.apis import FASegInferencer, load_model
from mmfaseg.export import (
    ExportedNetwork,
    check_onnx,
    compare,
    export_program,
)
from mmfaseg.ops import use_backend

MEAN = [123.675, 116.28, 103.53]
NAME = 'faseg_r18_1xb8-demo_shapes-128x128'


@pytest.fixture(scope='module')
def work_dir(root, tmp_path_factory):
    """A config and random weights."""
    folder = tmp_path_factory.mktemp('work_dir')
    cfg = Config.fromfile(root / f'configs/faseg/{NAME}.py')
    init_default_scope(cfg.default_scope)
    torch.manual_seed(0)
    model = MODELS.build(cfg.model)
    model.init_weights()
    # queries with different classes and masks, as after training
    decoder = model.decode_head.transformer_decoder
    torch.nn.init.normal_(decoder.predictor.class_embed.weight)
    for name, x in decoder.named_parameters():
        if name.endswith(('out_proj.weight', 'ffn.2.weight')):
            x.data *= 0.05
        if 'mask_embed' in name and x.dim() > 1:
            torch.nn.init.normal_(x, std=x[0].numel() ** -0.5)
    torch.save(dict(state_dict=model.state_dict(), meta={}), folder / 'x.pth')
    (folder / 'x.pth').rename(folder / 'iter_1.pth')
    cfg.dump(str(folder / f'{NAME}.py'))
    return folder


@pytest.fixture(scope='module')
def model(work_dir):
    return load_model(work_dir)


def test_exported_network_equals_segmentor(model, monkeypatch):
    """Scores equal those of ``test_step`` for an image in RGB."""
    image = torch.randint(0, 256, (3, 64, 96), dtype=torch.uint8)
    sample = SegDataSample(
        metainfo=dict(img_shape=(64, 96), ori_shape=(64, 96))
    )
    sample.gt_sem_seg = PixelData(data=torch.zeros(1, 64, 96))
    monkeypatch.setitem(model.test_cfg, 'return_logits', True)
    (expected,) = model.test_step(
        dict(inputs=[image.flip(0)], data_samples=[sample])
    )
    scores, labels = ExportedNetwork(model)(image.float()[None])
    torch.testing.assert_close(
        scores[0], expected.seg_logits.data, rtol=1e-4, atol=1e-5
    )
    assert torch.equal(labels[0], scores[0].argmax(0))
    assert len(labels.unique()) > 1


def test_preprocessor_without_normalization(root):
    cfg = Config.fromfile(root / f'configs/faseg/{NAME}.py')
    init_default_scope(cfg.default_scope)
    cfg.model.backbone.init_cfg = None
    cfg.model.data_preprocessor.update(mean=None, std=None)
    model = MODELS.build(cfg.model)
    model.cfg = cfg
    network = ExportedNetwork(model)
    assert network.mean.flatten().tolist() == [0.0] * 3
    assert network.std.flatten().tolist() == [1.0] * 3


@pytest.mark.parametrize(('channels', 'num_means'), [(1, 1), (4, 4), (4, 1)])
def test_other_channel_counts(root, channels, num_means):
    """Also with one mean for all channels."""
    cfg = Config.fromfile(root / f'configs/faseg/{NAME}.py')
    init_default_scope(cfg.default_scope)
    cfg.model.backbone.update(in_channels=channels, init_cfg=None)
    cfg.model.data_preprocessor.update(
        mean=[100.0] * num_means, std=[50.0] * num_means, bgr_to_rgb=False
    )
    model = MODELS.build(cfg.model)
    model.cfg = cfg
    network = ExportedNetwork(model)
    assert network.in_channels == channels
    sizes = []

    def run(image):
        sizes.append(tuple(image.shape))
        with use_backend('reference'):
            return network(image)

    assert compare(network, run, (1, 64, 32), 'x') == (0, 0)
    assert sizes == [(1, channels, 64, 32)]


def test_failed_tracing_names_the_backbone_and_the_remedy(model):
    network = ExportedNetwork(model)

    class Constant(torch.nn.Module):
        def forward(self, image):
            return [torch.zeros(int(image.shape[0]), 2)]

    network.backbone, network.neck = Constant(), torch.nn.Identity()
    message = r'Constant for any batch .*\(--fixed BxHxW\)'
    with pytest.raises(RuntimeError, match=message):
        export_program(network)
    message = 'with Constant: please report the config'
    with pytest.raises(RuntimeError, match=message):
        export_program(network, fixed=(1, 32, 32))


def test_other_heads_raise(model):
    class Other:
        decode_head = torch.nn.Identity()

    with pytest.raises(TypeError, match='Identity cannot be exported'):
        ExportedNetwork(Other())


@pytest.mark.slow
def test_graph_supports_other_batches_and_sizes(model):
    network = ExportedNetwork(model)
    graph = export_program(network).module(check_guards=False)
    for shape in ((1, 3, 64, 96), (3, 3, 256, 512), (2, 3, 32, 32)):
        image = 255 * torch.rand(shape)
        with use_backend('reference'):
            expected, labels = network(image)
        scores, found = graph(image)
        torch.testing.assert_close(scores, expected, rtol=1e-4, atol=1e-5)
        assert (found != labels).float().mean() < 1e-3


@pytest.mark.slow
def test_tool_writes_onnx_that_runs_with_numpy_only(
    root, run_python, work_dir, tmp_path
):
    onnx = pytest.importorskip('onnx')
    target = tmp_path / 'network.onnx'
    done = run_python(
        root / 'tools/deployment/export.py',
        work_dir,
        target,
        *('--sizes', '1x64x96', '3x128x32', '1x256x512', '--time'),
    )
    # the three sizes, and one that is always compared
    assert done.stdout.count('maximum difference') == 4
    assert '3x96x224: maximum difference' in done.stdout
    assert done.stdout.count('onnxruntime') == 4
    assert f'wrote {target}' in done.stdout
    assert [x.name for x in tmp_path.iterdir()] == ['network.onnx']
    file = onnx.load(target)
    assert {x.domain for x in file.graph.node} == {''}
    assert len(file.functions) == 0
    free = [
        x.dim_param for x in file.graph.input[0].type.tensor_type.shape.dim
    ]
    assert all(free[n] for n in (0, 2, 3))
    (mean,) = (x.value for x in file.metadata_props if x.key == 'mean')
    assert [round(float(x), 3) for x in mean.split()] == MEAN

    # an image of any size, padded as in the segmentor
    image = np.random.default_rng(0).integers(0, 256, (50, 70, 3), np.uint8)
    np.save(tmp_path / 'image.npy', image)
    example = root / 'tools/deployment/run_onnx.py'
    run_python(
        example, target, tmp_path / 'image.npy', tmp_path / 'labels.npy'
    )
    labels = np.load(tmp_path / 'labels.npy')
    (expected,) = FASegInferencer(work_dir, device='cpu')(image[..., ::-1])
    assert labels.shape == (50, 70)
    assert (labels != expected.labels).mean() < 1e-3
    source = example.read_text()
    assert 'torch' not in source.replace('PyTorch', '')
    assert 'import mmfaseg' not in source

    # other weights are detected
    (tensor,) = (
        x for x in file.graph.initializer if 'class_embed.bias' in x.name
    )
    values = onnx.numpy_helper.to_array(tensor)
    changed = values + np.arange(len(values), dtype=np.float32)
    tensor.CopyFrom(onnx.numpy_helper.from_array(changed, tensor.name))
    onnx.save(file, target)
    with pytest.raises(RuntimeError, match='differs from PyTorch'):
        check_onnx(ExportedNetwork(load_model(work_dir)), target)


def test_images_with_other_channels_are_padded_with_the_mean(
    root, monkeypatch
):
    pytest.importorskip('onnxruntime')
    monkeypatch.syspath_prepend(root / 'tools/deployment')
    from run_onnx import label_image

    class Session:
        """Returns the rounded values of the last channel as labels."""

        def get_modelmeta(self):
            return SimpleNamespace(custom_metadata_map={'mean': '1 2 3.5 4'})

        def run(self, outputs, feed):
            self.batch = feed['image']
            return [self.batch[:, -1].round().astype(np.int64)]

    session = Session()
    image = np.random.default_rng(0).integers(0, 256, (3, 40, 4), np.uint8)
    assert np.array_equal(label_image(session, image), image[..., 3])
    assert session.batch.shape == (1, 4, 32, 64)
    assert session.batch.dtype == np.float32
    for channel, mean in enumerate((1, 2, 3.5, 4)):
        assert (session.batch[0, channel, 3:] == mean).all()
        assert (session.batch[0, channel, :3, 40:] == mean).all()


@pytest.mark.slow
def test_tool_writes_a_graph_for_one_size(
    root, run_python, work_dir, tmp_path
):
    target = tmp_path / 'network.pt2'
    done = run_python(
        root / 'tools/deployment/export.py',
        *(work_dir, target, '--fixed', '2x32x64'),
    )
    assert '2x32x64: maximum difference' in done.stdout
    assert done.stdout.count('maximum difference') == 1
    graph = torch.export.load(target).module(check_guards=False)
    assert graph(255 * torch.rand(2, 3, 32, 64))[1].shape == (2, 32, 64)


@pytest.fixture
def tool(root):
    path = root / 'tools/deployment/export.py'
    spec = importlib.util.spec_from_file_location('export', path)
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    return tool


@pytest.mark.parametrize(
    ('sizes', 'message'),
    [('64x64', 'is not a size BxHxW'), ('1x64x70', 'multiples of 32')],
)
def test_invalid_sizes_raise(tool, sizes, message):
    with pytest.raises(ValueError, match=message):
        tool.read_sizes([sizes])


@pytest.mark.parametrize('option', ['--time', '--opset=18'])
def test_options_of_onnx_need_an_onnx_file(tool, capsys, option):
    with pytest.raises(SystemExit):
        tool.parse_args(['model', 'network.pt2', option])
    assert 'need a target that ends in .onnx' in capsys.readouterr().err
