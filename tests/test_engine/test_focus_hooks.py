"""Focus figures and losses that are logged after validation."""

import copy
import json
import re
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import DATASETS, MODELS, init_default_scope
from mmengine.runner import Runner
from mmengine.visualization import Visualizer

from mmfaseg.engine import FocusHook, ValidationLossHook
from mmfaseg.testing import assert_close

CONFIG = 'faseg/faseg_r18_1xb8-demo_shapes-128x128'
QUICK = dict(num_workers=0, persistent_workers=False)


@pytest.fixture
def make_config(root, tmp_path):
    """Returns a config of two iterations with validation on three images."""

    def make(*hooks, name=CONFIG):
        cfg = Config.fromfile(root / f'configs/{name}.py')
        cfg.work_dir = str(tmp_path)
        cfg.train_cfg.update(max_iters=2, val_interval=1)
        cfg.train_dataloader.update(batch_size=2, **QUICK)
        cfg.val_dataloader.update(QUICK)
        cfg.val_dataloader.dataset.update(length=3)
        for loader in (cfg.train_dataloader, cfg.val_dataloader):
            loader.dataset.image_size = (64, 64)
        cfg.custom_hooks = list(hooks)
        cfg.default_hooks.checkpoint.update(save_best=None, interval=100)
        cfg.experiment_name = tmp_path.name
        cfg.log_level = 'ERROR'
        cfg.randomness = dict(seed=3)
        return cfg

    return make


@pytest.fixture
def logged(tmp_path):
    """Returns the logged lines that contain a name."""

    def read(name):
        (path,) = tmp_path.glob('*/vis_data/scalars.json')
        lines = [json.loads(x) for x in path.read_text().splitlines()]
        return [line for line in lines if name in line]

    return read


def train(cfg):
    runner = Runner.from_cfg(cfg)
    runner.train()
    return runner


def test_runs_of_one_process_log_to_their_own_folders(make_config, tmp_path):
    for fold in ('first', 'second'):
        cfg = make_config()
        cfg.work_dir = str(tmp_path / fold)
        cfg.experiment_name = f'{tmp_path.name}_{fold}'
        train(cfg)
    for fold in ('first', 'second'):
        (path,) = (tmp_path / fold).glob('*/vis_data/scalars.json')
        assert 'mIoU' in path.read_text()


def test_errors_of_a_backend_do_not_end_the_training(
    make_config, tmp_path, monkeypatch
):
    def fail(self, *arguments, **options):
        raise OSError('the disk is full')

    monkeypatch.setattr(Visualizer, 'add_image', fail)
    cfg = make_config(dict(type='mmfaseg.FocusHook', indices=[0]))
    cfg.log_level = 'WARNING'
    runner = train(cfg)
    assert runner.iter == 2
    (log,) = tmp_path.glob('*/*.log')
    warning = 'FocusHook logged no attention at iteration 1: OSError: the disk'
    assert warning in log.read_text()


def test_images_and_numbers_are_logged(make_config, logged, tmp_path):
    hook = dict(type='mmfaseg.FocusHook', indices=[0, 2])
    cfg = make_config(hook)
    backends = [dict(type='LocalVisBackend')]
    cfg.visualizer.vis_backends = [
        *backends,
        dict(type='TensorboardVisBackend'),
    ]
    runner = train(cfg)
    runner.visualizer.close()
    names = sorted(x.name for x in tmp_path.glob('*/vis_data/vis_image/*'))
    assert names == [f'focus_{i}_{n}.png' for i in (0, 2) for n in (1, 2)]
    lines = logged('focus/entropy')
    assert [line['step'] for line in lines] == [1, 2]
    for line in lines:
        assert 0 < line['focus/entropy'] < 1
        assert 0 < line['focus/overlap'] < 1
        assert line['focus/drift'] > 0 and line['focus/turn'] > 0

    accumulator = pytest.importorskip(
        'tensorboard.backend.event_processing.event_accumulator'
    )
    (events,) = tmp_path.glob('*/vis_data/events.*')
    found = accumulator.EventAccumulator(str(events))
    found.Reload()
    assert {'focus_0', 'focus_2'} <= set(found.Tags()['images'])
    assert {'focus/entropy', 'mIoU'} <= set(found.Tags()['scalars'])
    assert [x.step for x in found.Images('focus_0')] == [1, 2]


def test_focus_of_learned_queries_does_not_turn(make_config, logged):
    cfg = make_config(dict(type='mmfaseg.FocusHook', indices=[1]))
    decoder = cfg.model.decode_head.transformer_decoder
    decoder.positional_query = dict(type='mmfaseg.LearnedPositionalQuery')
    train(cfg)
    assert [x['focus/turn'] < 1e-9 for x in logged('focus/turn')] == [True] * 2


@pytest.mark.parametrize(
    ('hook', 'change', 'message'),
    [
        (dict(indices=[0, 3]), {}, r'indices=\[0, 3\], but there are only 3'),
        ({}, {'val': None}, 'set val_dataloader'),
        (
            {},
            {'name': 'mask2former/mask2former_r18_1xb8-3k_shapes-128x128'},
            'Mask2FormerHead has no FASegDecoder to trace',
        ),
    ],
)
def test_invalid_focus_settings_raise_before_training(
    make_config, hook, change, message
):
    hook = dict(type='mmfaseg.FocusHook', **hook)
    cfg = make_config(hook, name=change.get('name', CONFIG))
    if 'val' in change:
        cfg.update(val_dataloader=None, val_cfg=None, val_evaluator=None)
    with pytest.raises(ValueError, match=message):
        train(cfg)


@pytest.mark.parametrize('indices', [[], [-1]])
def test_invalid_indices_raise(indices):
    with pytest.raises(ValueError, match='indices must be one or more'):
        FocusHook(indices)


# losses


@pytest.fixture(scope='module')
def parts(root):
    """A network and its validation dataset."""
    cfg = Config.fromfile(root / f'configs/{CONFIG}.py')
    init_default_scope(cfg.default_scope)
    torch.manual_seed(0)
    model = MODELS.build(cfg.model).eval()
    cfg.val_dataloader.dataset.update(length=3, image_size=(96, 128))
    return model, DATASETS.build(cfg.val_dataloader.dataset)


def validate(hook, model, batches, start=0):
    """Returns the metrics of a validation on batches from a start index."""
    loop = SimpleNamespace(dataloader=[None] * (start + len(batches)))
    runner = SimpleNamespace(model=model, val_loop=loop)
    hook.before_val_epoch(runner)
    for n, items in enumerate(batches, start):
        batch = dict(
            inputs=[x['inputs'] for x in items],
            data_samples=[x['data_samples'] for x in items],
        )
        hook.after_val_iter(runner, n, batch)
    metrics = {}
    hook.after_val_epoch(runner, metrics)
    return metrics


def test_losses_equal_model_losses(parts):
    model, dataset = parts
    item = dataset[0]
    found = validate(ValidationLossHook(), model, [[item]])
    data = dict(inputs=[item['inputs']], data_samples=[item['data_samples']])
    batch = model.data_preprocessor(data, False)
    torch.manual_seed(0)
    with torch.no_grad():
        losses = model.loss(batch['inputs'], batch['data_samples'])
    for name, value in losses.items():
        if 'loss' in name:
            assert found[f'val_{name}'] == pytest.approx(value.item())
    terms = [x for name, x in found.items() if name.startswith('val_decode')]
    assert len(terms) == 3
    assert found['val_loss'] == pytest.approx(sum(terms), rel=1e-5)
    assert found['val_aux.loss_ce'] > 0


def test_mean_counts_images_not_batches(parts):
    model, dataset = parts
    items = [dataset[n] for n in range(3)]
    batches = [items[:2], items[2:]]
    hook = ValidationLossHook()
    whole = validate(hook, model, batches)
    first = validate(hook, model, batches[:1])
    last = validate(hook, model, batches[1:], start=1)
    for name, value in whole.items():
        mean = (2 * first[name] + last[name]) / 3
        assert value == pytest.approx(mean), name
    assert validate(hook, model, batches) == whole  # the same points again
    few = ValidationLossHook(max_batches=1)
    assert validate(few, model, batches) == first


def test_labels_follow_the_input(parts):
    """Labels of twice the size, and a padded input."""
    model, dataset = parts
    item = copy.deepcopy(dataset[0])
    expected = validate(ValidationLossHook(), model, [[item]])
    labels = item['data_samples'].gt_sem_seg
    large = labels.data.repeat_interleave(2, 1).repeat_interleave(2, 2)
    del labels.data
    item['data_samples'].gt_sem_seg.data = large
    found = validate(ValidationLossHook(), model, [[item]])
    for name, value in expected.items():
        assert found[name] == pytest.approx(value), name

    cut = copy.deepcopy(dataset[0])
    cut['inputs'] = cut['inputs'][:, :90, :100]
    labels = cut['data_samples'].gt_sem_seg
    part = labels.data[:, :90, :100]
    del labels.data
    labels.data = part
    cut['data_samples'].set_metainfo(dict(img_shape=(90, 100)))
    assert np.isfinite(
        validate(ValidationLossHook(), model, [[cut]])['val_loss']
    )
    assert tuple(labels.data.shape) == (1, 90, 100)  # unchanged


def test_random_state_of_training_is_unchanged(parts):
    model, dataset = parts
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    validate(ValidationLossHook(), model, [[dataset[0]]])
    assert_close(torch.rand(3), expected)


def test_best_checkpoint_can_be_selected_by_loss(
    make_config, logged, tmp_path
):
    cfg = make_config(dict(type='mmfaseg.ValidationLossHook'))
    cfg.default_hooks.checkpoint.update(save_best='val_loss', rule='less')
    train(cfg)
    lines = logged('val_loss')
    assert [line['step'] for line in lines] == [1, 2]
    assert all('mIoU' in line for line in lines)
    best = min(lines, key=lambda x: x['val_loss'])['step']
    (kept,) = tmp_path.glob('best_*.pth')
    assert kept.name == f'best_val_loss_iter_{best}.pth'


def test_losses_of_mmseg_models(make_config, logged):
    name = 'mask2former/mask2former_r18_1xb8-3k_shapes-128x128'
    train(make_config(dict(type='mmfaseg.ValidationLossHook'), name=name))
    lines = logged('val_loss')
    assert len(lines) == 2
    for line in lines:
        terms = [x for x in line if x.startswith('val_decode')]
        # only of the last prediction, as for our heads
        assert sorted(terms) == [
            f'val_decode.loss_{x}' for x in ('cls', 'dice', 'mask')
        ]
        total = sum(line[x] for x in terms)
        assert line['val_loss'] == pytest.approx(total, rel=1e-5)


def test_invalid_loss_settings_raise(make_config):
    with pytest.raises(ValueError, match='at least 1, got 0'):
        ValidationLossHook(0)
    runner = SimpleNamespace(model=torch.nn.Linear(1, 1), val_loop=None)
    with pytest.raises(ValueError, match='there is no validation'):
        ValidationLossHook().before_train(runner)
    runner.val_loop = SimpleNamespace()
    with pytest.raises(ValueError, match='Linear is not a segmentor'):
        ValidationLossHook().before_train(runner)


def test_images_without_labels_raise(parts):
    model, dataset = parts
    item = copy.deepcopy(dataset[0])
    del item['data_samples'].gt_sem_seg
    with pytest.raises(ValueError, match='add LoadAnnotations to'):
        validate(ValidationLossHook(), model, [[item]])


@pytest.mark.slow
@pytest.mark.parametrize('length', [3, 1])
def test_uneven_batches_across_processes(
    make_config, run_python, tmp_path, root, length
):
    """Two batches and one, or one and zero."""
    cfg = make_config(
        dict(type='mmfaseg.ValidationLossHook'),
        dict(type='mmfaseg.FocusHook', indices=[0]),
    )
    cfg.val_dataloader.dataset.update(length=length)
    cfg.val_dataloader.sampler.update(round_up=False)
    cfg.default_hooks.checkpoint.update(save_best='mIoU')
    cfg.log_level = 'INFO'
    cfg.dump(str(tmp_path / 'uneven.py'))
    done = run_python(
        *('-m', 'torch.distributed.run', '--standalone'),
        *('--nproc_per_node=2', root / 'tools/train.py'),
        tmp_path / 'uneven.py',
        *('--launcher', 'pytorch', '--no-check', '--work-dir', tmp_path),
    )
    losses = re.findall(r'val_loss: ([\d.]+)', done.stdout)
    assert len(losses) == (2 if length == 3 else 0)
    assert len(re.findall(r'Iter\(val\).*mIoU: ', done.stdout)) == 2


def teardown_module():
    Visualizer._instance_dict.clear()
