"""tools/model_converters/publish_model.py."""

import importlib

import pytest
import torch

from mmfaseg.checkpoints import read_checkpoint

WEIGHTS = {
    'conv.weight': torch.tensor([[0.1, -2.0]]),
    'norm.num_batches_tracked': torch.tensor(70_000),
}
META = dict(
    iter=3,
    cfg='model = dict()',
    dataset_meta=dict(
        classes=('sky', 'road'), palette=[(0, 0, 0), (1, 2, 3)], suffix='.png'
    ),
)


@pytest.fixture
def publish(root, monkeypatch):
    monkeypatch.syspath_prepend(root / 'tools/model_converters')
    tool = importlib.import_module('publish_model')
    return lambda *arguments: tool.main([str(x) for x in arguments])


@pytest.fixture
def source(tmp_path):
    """A checkpoint of a training with EMA."""
    path = tmp_path / 'iter_3.pth'
    content = dict(
        state_dict=WEIGHTS,
        ema_state_dict={f'module.{k}': x for k, x in WEIGHTS.items()},
        optimizer=dict(state={0: dict(exp_avg=torch.ones(1, 2))}),
        meta=META,
    )
    torch.save(content, path)
    return path


@pytest.mark.parametrize('suffix', ['.pth', '.safetensors'])
@pytest.mark.parametrize('dtype', ['float32', 'float16'])
def test_file_has_weights_and_classes_only(
    publish, source, tmp_path, capsys, suffix, dtype
):
    target = tmp_path / f'published{suffix}'
    publish(source, target, '--dtype', dtype)
    content = read_checkpoint(target)
    assert content.keys() == {'state_dict', 'meta'}
    state = content['state_dict']
    assert state.keys() == WEIGHTS.keys()
    weight = WEIGHTS['conv.weight'].to(getattr(torch, dtype))
    assert state['conv.weight'].dtype == weight.dtype
    assert torch.equal(state['conv.weight'], weight)
    # counts would overflow in float16
    assert state['norm.num_batches_tracked'] == 70_000
    assert content['meta']['dataset_meta'] == dict(
        classes=['sky', 'road'], palette=[[0, 0, 0], [1, 2, 3]]
    )
    assert f'{target}: 2 tensors, ' in capsys.readouterr().out


def test_values_that_float16_cannot_store_raise(publish, tmp_path):
    source, target = tmp_path / 'large.pth', tmp_path / 'out.pth'
    torch.save(dict(state_dict={'scale': torch.tensor([7e4])}), source)
    message = 'scale has values up to 70000, which .* use --dtype float32'
    with pytest.raises(SystemExit, match=message):
        publish(source, target, '--dtype', 'float16')
    assert not target.exists()
    publish(source, target)
    assert target.is_file()


def test_values_that_are_not_finite_raise(publish, tmp_path):
    source = tmp_path / 'diverged.pth'
    torch.save(dict(state_dict={'scale': torch.tensor([torch.nan])}), source)
    with pytest.raises(SystemExit, match='not finite: the training diverged'):
        publish(source, tmp_path / 'out.pth')


def test_files_without_weights_raise(publish, tmp_path):
    source = tmp_path / 'log.pth'
    torch.save(dict(loss=torch.ones(1)), source)
    with pytest.raises(SystemExit, match='has no entry "state_dict"'):
        publish(source, tmp_path / 'out.pth')
