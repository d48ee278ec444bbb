"""Checks of weights that are loaded for training or testing."""

import pytest
import torch
from mmengine.config import Config
from mmengine.runner import Runner

CONFIG = 'configs/faseg/faseg_r18_1xb8-demo_shapes-128x128.py'
CLASSES = 'decode_head.transformer_decoder.predictor.class_embed.weight'


@pytest.fixture(scope='module')
def trained(root, tmp_path_factory):
    """A checkpoint after one iteration."""
    folder = tmp_path_factory.mktemp('trained')
    make_runner(root, folder, 1).train()
    return folder / 'iter_1.pth'


def make_runner(root, folder, iterations, **options):
    cfg = Config.fromfile(root / CONFIG)
    cfg.merge_from_dict(
        {
            'work_dir': str(folder),
            'experiment_name': folder.name,
            'train_cfg.max_iters': iterations,
            'train_cfg.val_interval': 100,
            'default_hooks.checkpoint.interval': 1,
            'train_dataloader.batch_size': 1,
            'train_dataloader.num_workers': 0,
            'train_dataloader.persistent_workers': False,
            'test_dataloader.num_workers': 0,
            'test_dataloader.persistent_workers': False,
            'test_dataloader.dataset.length': 1,
            'randomness': dict(seed=0),
            **options,
        }
    )
    return Runner.from_cfg(cfg)


def damage_checkpoint(trained, folder, damage):
    content = torch.load(trained, weights_only=True)
    state = content['state_dict']
    if damage == 'shape':
        state[CLASSES] = state[CLASSES][:-1]
    elif damage == 'missing':
        del state[CLASSES]
    elif damage == 'auxiliary':
        for name in [x for x in state if x.startswith('auxiliary_head')]:
            del state[name]
    elif damage == 'nan':
        state[CLASSES][0] = torch.nan
    elif damage == 'nan_average':  # which EMAHook swaps with the weights
        weights = {f'module.{name}': x.clone() for name, x in state.items()}
        content['ema_state_dict'] = dict(weights, steps=torch.tensor(1))
        state[CLASSES][0] = torch.nan
    path = folder / 'damaged.pth'
    torch.save(content, path)
    return str(path)


MESSAGES = dict(
    shape='1 weights of another shape: ' + CLASSES,
    missing='lacks 1 weights of the network, such as ' + CLASSES,
    auxiliary=r'lacks \d+ weights of the network, such as auxiliary_head',
    nan='weights that are not finite: ' + CLASSES,
    nan_average='weights that are not finite: ' + CLASSES,
)
DAMAGES = ['shape', 'missing', 'auxiliary', 'nan', 'nan_average']


@pytest.mark.parametrize('damage', DAMAGES)
def test_resuming_invalid_weights_raises(damage, root, trained, tmp_path):
    path = damage_checkpoint(trained, tmp_path, damage)
    hooks = [dict(type='EMAHook')] if damage == 'nan_average' else []
    runner = make_runner(
        root, tmp_path, 2, load_from=path, resume=True, custom_hooks=hooks
    )
    with pytest.raises(ValueError, match=MESSAGES[damage]) as raised:
        runner.train()
    assert path in str(raised.value)


@pytest.mark.parametrize('damage', ['shape', 'missing', 'nan'])
def test_testing_invalid_weights_raises(damage, root, trained, tmp_path):
    path = damage_checkpoint(trained, tmp_path, damage)
    runner = make_runner(root, tmp_path, 1, load_from=path)
    with pytest.raises(ValueError, match=MESSAGES[damage]):
        runner.test()


def test_load_checkpoint_accepts_other_networks(root, trained, tmp_path):
    runner = make_runner(root, tmp_path, 1)
    runner.load_checkpoint(damage_checkpoint(trained, tmp_path, 'shape'))
    with pytest.raises(ValueError, match=MESSAGES['nan']):
        runner.load_checkpoint(damage_checkpoint(trained, tmp_path, 'nan'))


def test_load_from_raises_if_no_weight_matches(root, trained, tmp_path):
    """For example weights of a backbone, given as ``load_from``."""
    state = torch.load(trained, weights_only=True)['state_dict']
    start = 'backbone.'
    weights = {
        name.removeprefix(start): value
        for name, value in state.items()
        if name.startswith(start)
    }
    path = str(tmp_path / 'backbone.pth')
    torch.save(weights, path)
    runner = make_runner(root, tmp_path, 1, load_from=path)
    message = f'none of its {len(weights)} weights matches .*backbone.init_cfg'
    with pytest.raises(ValueError, match=message):
        runner.train()


def test_testing_needs_no_auxiliary_head(root, trained, tmp_path):
    path = damage_checkpoint(trained, tmp_path, 'auxiliary')
    assert 'mIoU' in make_runner(root, tmp_path, 1, load_from=path).test()


@pytest.mark.slow
def test_load_from_accepts_other_networks_but_not_nan(root, trained, tmp_path):
    """The classifier is trained from scratch."""
    path = damage_checkpoint(trained, tmp_path, 'shape')
    make_runner(root, tmp_path, 1, load_from=path).train()
    path = damage_checkpoint(trained, tmp_path, 'nan')
    (tmp_path / 'again').mkdir()
    runner = make_runner(root, tmp_path / 'again', 1, load_from=path)
    with pytest.raises(ValueError, match=MESSAGES['nan']):
        runner.train()
