"""tools/train.py, tools/test.py and their shell scripts."""

import contextlib
import importlib.util
import io
import json
import os
import re
import subprocess
from pathlib import Path
from types import ModuleType

import mmcv
import numpy as np
import pytest
import torch
from mmengine.optim import OptimWrapper
from mmengine.runner import Runner
from mmengine.visualization import TensorboardVisBackend
from processes import clear_visualizers

from mmfaseg.engine import FullyShardStrategy
from mmfaseg.models import FASegHead
from mmfaseg.utils import command_line, run_options

CONFIG = Path(__file__).parent / 'configs' / 'fcn_shapes.py'
ROOT = Path(__file__).parent.parent
TOOLS = ROOT / 'tools'
DEMO = ROOT / 'configs' / 'faseg' / 'faseg_r18_1xb8-demo_shapes-128x128.py'
INSTANCES = (
    ROOT / 'configs/faseg_coco/faseg_r18_1xb8-demo_shapes-instance-128x128.py'
)
QUICK = [
    'train_cfg.max_iters=2',
    'train_cfg.val_interval=100',
    'train_dataloader.batch_size=2',
    'train_dataloader.num_workers=0',
    'train_dataloader.persistent_workers=False',
    'test_dataloader.num_workers=0',
    'test_dataloader.persistent_workers=False',
    'test_dataloader.dataset.length=2',
    'default_hooks.logger.interval=1',
]


def load_tool(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, TOOLS / f'{name}.py')
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def run_tool(name: str, *arguments: object) -> str:
    """Runs a tool in this process; returns what it prints."""
    clear_visualizers()
    printed = io.StringIO()
    with (
        contextlib.redirect_stdout(printed),
        contextlib.redirect_stderr(printed),
    ):
        load_tool(name).main([str(x) for x in arguments])
    return printed.getvalue()


def config_of(tool: str, *arguments: object):
    module = load_tool(tool)
    return module.load_config(
        module.parse_args([str(CONFIG), *map(str, arguments)])
    )


@pytest.fixture(autouse=True)
def _no_local_rank(monkeypatch: pytest.MonkeyPatch) -> None:
    # set first, so that a value set by a tool is removed after the test
    monkeypatch.setenv('LOCAL_RANK', '0')
    monkeypatch.delenv('LOCAL_RANK')


@pytest.fixture(scope='module')
def trained(tmp_path_factory, run_python) -> tuple[Path, str]:
    """The work dir and the output of two iterations in a subprocess.

    The config has SyncBN, and emits a warning.
    """
    work_dir = tmp_path_factory.mktemp('trained')
    config = work_dir / 'warning.py'
    config.write_text(
        f'_base_ = {str(CONFIG)!r}\n'
        "import warnings\nwarnings.warn('a warning of the user')\n"
    )
    command = [TOOLS / 'train.py', config, '--work-dir', work_dir]
    return work_dir, run_python(*command, '--seed', 3).stdout


@pytest.mark.smoke
def test_training_writes_log_and_checkpoint(trained) -> None:
    work_dir, printed = trained
    assert 'Iter(train) [2/2]' in printed
    assert (work_dir / 'iter_2.pth').is_file()
    (log,) = work_dir.glob('*/*.log')
    for text in (printed, log.read_text()):
        assert text.count('mmfaseg runs on') == 1


@pytest.mark.smoke
def test_only_known_warnings_are_hidden(trained) -> None:
    _, printed = trained
    assert 'a warning of the user' in printed
    for message in command_line.KNOWN_WARNINGS:
        assert not re.search(message, printed), message


@pytest.mark.smoke
def test_resume_continues_the_run(trained) -> None:
    work_dir, _ = trained
    printed = run_tool(
        *('train', CONFIG, '--work-dir', work_dir, '--resume'),
        *('--cfg-options', 'train_cfg.max_iters=4'),
    )
    assert 'Iter(train) [3/4]' in printed
    assert 'Iter(train) [4/4]' in printed
    assert 'Iter(train) [1/4]' not in printed
    assert 'Iter(train) [2/4]' not in printed
    assert (work_dir / 'iter_4.pth').is_file()


@pytest.mark.smoke
def test_testing_writes_metrics_figures_and_predictions(
    trained, tmp_path
) -> None:
    drawn, labels = tmp_path / 'drawn', tmp_path / 'labels'
    run_tool(
        'test',
        CONFIG,
        trained[0] / 'iter_2.pth',
        *('--work-dir', tmp_path / 'logs'),
        *('--show-dir', drawn),
        *('--out', labels),
    )
    (metrics,) = (tmp_path / 'logs').glob('*/*.json')
    assert 0 <= json.loads(metrics.read_text())['mIoU'] <= 100
    assert len(list(drawn.glob('vis_data/vis_image/*.png'))) == 2
    images = [mmcv.imread(p, 'unchanged') for p in labels.glob('*.png')]
    assert [image.shape for image in images] == [(32, 32)] * 2
    assert np.max(images) < 7


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (('train', 'nowhere.py'), 'there is no config file nowhere.py'),
        (('train', 'nowhere'), 'nowhere is not a config file'),
        (('test', 'x.pth', CONFIG), 'x.pth is not a config file'),
        (('test', CONFIG, 'x.pth'), 'there is no checkpoint x.pth'),
        (
            ('train', CONFIG, '--work-dir', CONFIG / 'a'),
            'the work directory cannot be created',
        ),
    ],
)
def test_wrong_paths_exit_with_message(arguments, message) -> None:
    with pytest.raises(SystemExit, match=f'error: {message}'):
        run_tool(*arguments)


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (('train', CONFIG, '--amp'), '--amp fp16 is supported on cuda'),
        (('test', INSTANCES, 'x.pth', '--tta'), '--tta needs tta_model'),
    ],
)
def test_unsupported_options_exit_with_message(
    arguments, message, monkeypatch
) -> None:
    monkeypatch.setattr(run_options, 'get_device', lambda: 'cpu')
    with pytest.raises(SystemExit, match=f'error: .*{message}'):
        run_tool(*arguments)


@pytest.mark.parametrize(
    ('module', 'message'),
    [
        ('no_module.models', "'no_module': run `pip install no-module`, or"),
        (
            'mmseg.modles',
            "No module named 'mmseg.modles': check custom_",
        ),
        ('broken_module', "cannot import name 'nothing' from 'os'"),
    ],
)
def test_failed_custom_import_exits_with_message(
    module, message, tmp_path, monkeypatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / 'broken_module.py').write_text('from os import nothing\n')
    config = tmp_path / 'my.py'
    config.write_text(
        f'_base_ = {str(CONFIG)!r}\n'
        f"custom_imports = dict(imports=['mmfaseg', {module!r}], "
        'allow_failed_imports=False)\n'
    )
    with pytest.raises(SystemExit, match=rf'import of my\.py .*{message}'):
        run_tool('train', config)


def test_failed_download_of_weights_exits_with_message(
    tmp_path, monkeypatch
) -> None:
    monkeypatch.setenv('TORCH_HOME', str(tmp_path))
    url = 'http://127.0.0.1:9/weights.pth'
    config = tmp_path / 'my.py'
    config.write_text(
        f'_base_ = {str(DEMO)!r}\nmodel = dict(backbone=dict('
        f"init_cfg=dict(_delete_=True, type='Pretrained', "
        f'checkpoint={url!r})))\n'
    )
    options = ('--work-dir', tmp_path / 'run', '--cfg-options', *QUICK)
    with pytest.raises(SystemExit, match=f'error: {url} cannot be downloaded'):
        run_tool('train', config, *options)


def test_outputs_that_cannot_be_written_exit_with_message(trained) -> None:
    checkpoint = trained[0] / 'iter_2.pth'
    for option in ('--out', '--show-dir'):
        with pytest.raises(SystemExit, match='error: the output folder'):
            run_tool('test', CONFIG, checkpoint, option, CONFIG / 'a')


def test_configs_may_be_given_by_name() -> None:
    tool = load_tool('train')
    cfg = tool.load_config(
        tool.parse_args(['faseg_efficientnet-lite0_dsb2018'])
    )
    name = 'faseg_efficientnet-lite0_1xb4-1k_dsb2018-256x256'
    assert cfg.work_dir == f'work_dirs/{name}'


def test_images_without_labels_need_format_only(trained, tmp_path) -> None:
    for folder in 'ab':
        image = np.full((32, 32, 3), 99, np.uint8)
        mmcv.imwrite(image, str(tmp_path / f'images/{folder}/1.png'))
    dataset = dict(
        type='BaseSegDataset',
        data_prefix=dict(img_path=str(tmp_path / 'images')),
        img_suffix='.png',
        metainfo=dict(classes=list('abcdefg')),
        pipeline=[dict(type='LoadImageFromFile'), dict(type='PackSegInputs')],
        test_mode=True,
    )
    config = tmp_path / 'config.py'
    config.write_text(
        f'_base_ = {str(CONFIG)!r}\n'
        f'test_dataloader = dict(dataset=dict(_delete_=True, **{dataset}))\n'
    )
    command = ['test', config, trained[0] / 'iter_2.pth']
    command += ['--work-dir', tmp_path / 'logs']
    with pytest.raises(SystemExit, match='use --format-only --out DIR'):
        run_tool(*command)
    labels = tmp_path / 'labels'
    run_tool(*command, '--format-only', '--out', labels)
    for folder in 'ab':
        found = mmcv.imread(labels / folder / '1.png', 'unchanged')
        assert found.shape == (32, 32)


def test_format_only_loads_no_labels() -> None:
    load = 'test_dataloader.dataset.pipeline.0.type=mmseg.LoadAnnotations'
    cfg = config_of(
        'test', 'a.pth', '--format-only', '--out=x', '--cfg-options', load
    )
    assert cfg.test_evaluator == []
    assert 'Load' not in str(cfg.test_dataloader.dataset.pipeline)


def test_format_only_with_tta_keeps_all_views() -> None:
    tool = load_tool('test')
    name = 'faseg_efficientnet-lite0_dsb2018'
    options = ['a.pth', '--tta', '--format-only', '--out', 'x']
    cfg = tool.load_config(tool.parse_args([name, *options]))
    load, augment = cfg.test_dataloader.dataset.pipeline
    assert load['type'] == 'LoadImageFromFile'
    assert all(augment['transforms'])
    kinds = [step['type'] for x in augment['transforms'] for step in x]
    assert 'RandomFlip' in kinds
    assert 'LoadAnnotations' not in kinds


def test_options_apply_to_every_test_dataset(tmp_path) -> None:
    path = tmp_path / 'two.py'
    path.write_text(
        "_base_ = 'mmfaseg::faseg/"
        "faseg_efficientnet-lite0_1xb4-1k_dsb2018-256x256.py'\n"
        'part = {{_base_.test_dataloader.dataset}}\n'
        'test_dataloader = dict(dataset=dict(_delete_=True, '
        "type='ConcatDataset', datasets=[part, part]))\n"
    )
    tool = load_tool('test')
    options = ['a.pth', '--tta', '--format-only', '--out', 'x']
    cfg = tool.load_config(tool.parse_args([str(path), *options]))
    dataset = cfg.test_dataloader.dataset
    assert 'pipeline' not in dataset
    for part in dataset.datasets:
        assert part.pipeline[-1].type == 'TestTimeAug'
        assert 'LoadAnnotations' not in str(part.pipeline)


def test_format_only_of_detectors_writes_results() -> None:
    tool = load_tool('test')
    options = ['a.pth', '--format-only', '--out', 'x']
    cfg = tool.load_config(tool.parse_args([str(INSTANCES), *options]))
    assert cfg.test_evaluator.format_only
    assert cfg.test_evaluator.outfile_prefix == str(Path('x/results'))
    assert 'LoadAnnotations' not in str(cfg.test_dataloader.dataset.pipeline)


def test_test_time_augmentation(trained, tmp_path) -> None:
    checkpoint = trained[0] / 'iter_2.pth'
    printed = run_tool(
        'test', CONFIG, checkpoint, '--tta', '--work-dir', tmp_path
    )
    assert 'mIoU' in printed


def test_work_dir_defaults_to_config() -> None:
    assert config_of('train').work_dir == 'work_dirs/fcn_shapes'
    cfg = config_of('train', '--cfg-options', 'work_dir=here')
    assert cfg.work_dir == 'here'
    cfg = config_of('test', 'a.pth', '--work-dir', 'there')
    assert cfg.work_dir == 'there'


@pytest.mark.parametrize(
    ('option', 'message'),
    [
        ('train_dataloader.batch_size.x=3', 'cannot inherit from base'),
        ('train_dataloader.dataset.pipeline.99.type=x', 'Index 99 exceeds'),
        ('train_dataloader.dataset.pipeline.x=3', 'must be integers'),
    ],
)
def test_cfg_option_that_does_not_fit_is_named(option, message) -> None:
    name, value = option.split('=')
    with pytest.raises(SystemExit, match=f'error: the option {name}=') as stop:
        config_of('train', '--cfg-options', option)
    assert message in str(stop.value)


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (['a.b', '100'], "'a.b' is not KEY=VALUE"),
        (['a=1', str(CONFIG)], 'is not KEY=VALUE; give other arguments'),
        (['a=[1,2'], 'Imbalanced brackets'),
    ],
)
def test_invalid_cfg_options_print_the_usage(options, message, capsys) -> None:
    with pytest.raises(SystemExit):
        config_of('train', '--cfg-options', *options)
    assert message in capsys.readouterr().err


def test_config_that_is_not_python_exits_with_message(tmp_path) -> None:
    config = tmp_path / 'my.py'
    config.write_text('model = dict(\n')
    with pytest.raises(SystemExit, match=r'my\.py cannot be read'):
        run_tool('train', config)


@pytest.mark.parametrize('key', ['custom_hooks', 'randomness'])
def test_settings_may_be_none(key) -> None:
    option = ['--cfg-options', f'{key}=None']
    cfg = config_of('test', 'a.pth', '--out', 'out', *option)
    assert len(cfg.custom_hooks) == (1 if key == 'custom_hooks' else 2)
    cfg = config_of('train', '--seed', '3', *option)
    assert cfg.randomness == dict(seed=3)


@pytest.mark.parametrize('flag', ['--local-rank=1', '--local_rank=1'])
def test_local_rank_is_set(flag: str) -> None:
    cfg = config_of('train', '--launcher', 'pytorch', flag)
    assert cfg.launcher == 'pytorch'
    assert os.environ['LOCAL_RANK'] == '1'


def test_local_rank_of_torchrun_takes_precedence(monkeypatch) -> None:
    monkeypatch.setenv('LOCAL_RANK', '3')
    config_of('test', 'a.pth', '--local-rank', '0')
    assert os.environ['LOCAL_RANK'] == '3'


@pytest.fixture
def amp_config_of(monkeypatch):
    """Returns the training config on a device."""

    def config(*arguments: object, device: str = 'cuda'):
        monkeypatch.setattr(run_options, 'get_device', lambda: device)
        return config_of('train', *arguments)

    return config


@pytest.mark.parametrize('value', [[], ['fp16']])
def test_amp_trains_in_float16_with_loss_scaling(value, amp_config_of) -> None:
    wrapper = amp_config_of('--amp', *value).optim_wrapper
    assert wrapper.type == 'AmpOptimWrapper'
    assert wrapper.dtype == 'float16'
    assert wrapper.loss_scale == 'dynamic'
    assert wrapper.optimizer.type == 'AdamW'


def test_amp_keeps_the_loss_scale_of_the_config(amp_config_of) -> None:
    options = ['--cfg-options', 'optim_wrapper.loss_scale=64.0']
    for kind in ('OptimWrapper', 'AmpOptimWrapper'):
        more = [*options, f'optim_wrapper.type={kind}']
        wrapper = amp_config_of('--amp', *more).optim_wrapper
        assert (wrapper.type, wrapper.loss_scale) == ('AmpOptimWrapper', 64)


def test_amp_in_bfloat16_does_not_scale_the_loss(amp_config_of) -> None:
    for options in ([], ['--cfg-options', 'optim_wrapper.loss_scale=64.0']):
        wrapper = amp_config_of('--amp', 'bf16', *options).optim_wrapper
        assert wrapper.type == 'mmfaseg.Bfloat16OptimWrapper'
        assert 'loss_scale' not in wrapper


def test_types_may_be_classes(monkeypatch) -> None:
    """As in pure Python configs."""
    monkeypatch.setattr(run_options, 'get_device', lambda: 'cuda')
    cfg = config_of('train')
    cfg.optim_wrapper.type = OptimWrapper
    cfg.visualizer = dict(vis_backends=[dict(type=TensorboardVisBackend)])
    cfg.strategy = dict(type=FullyShardStrategy)
    run_options.train_with_amp(cfg, 'bf16')
    run_options.add_logger(cfg, 'tensorboard')
    run_options.remove_sharding(cfg)
    assert cfg.optim_wrapper.type == 'mmfaseg.Bfloat16OptimWrapper'
    assert len(cfg.visualizer.vis_backends) == 1
    assert 'strategy' not in cfg


def test_amp_rejects_other_optim_wrapper(amp_config_of) -> None:
    options = ['--cfg-options', 'optim_wrapper.type=ApexOptimWrapper']
    with pytest.raises(ValueError, match='ApexOptimWrapper'):
        amp_config_of('--amp', *options)


@pytest.mark.parametrize(
    ('precision', 'device'),
    [('fp16', 'cpu'), ('fp16', 'mps'), ('bf16', 'mps')],
)
def test_amp_rejects_unsupported_device(
    precision, device, amp_config_of, monkeypatch
) -> None:
    monkeypatch.setattr(
        run_options, 'has_bfloat16_instructions', lambda: False
    )
    message = f"--amp {precision}.*cuda.*'{device}'; omit --amp"
    with pytest.raises(ValueError, match=message):
        amp_config_of('--amp', precision, device=device)


def test_amp_suggests_bfloat16_on_a_cpu(amp_config_of, monkeypatch) -> None:
    monkeypatch.setattr(run_options, 'has_bfloat16_instructions', lambda: True)
    with pytest.raises(ValueError, match="'cpu'; use --amp bf16, omit --amp"):
        amp_config_of('--amp', 'fp16', device='cpu')


@pytest.mark.parametrize('supported', [False, True])
def test_amp_warns_if_the_processor_emulates_bfloat16(
    supported, amp_config_of, monkeypatch
) -> None:
    messages = []
    monkeypatch.setattr(
        run_options, 'print_log', lambda text, **_: messages.append(text)
    )
    monkeypatch.setattr(
        run_options, 'has_bfloat16_instructions', lambda: supported
    )
    amp_config_of('--amp', 'bf16', device='cpu')
    assert ('no bfloat16 instructions' in str(messages)) != supported


@pytest.fixture(scope='module')
def trained_faseg(tmp_path_factory) -> tuple[Path, str]:
    """The work dir and the output of two iterations in bfloat16 on a CPU."""
    work_dir = tmp_path_factory.mktemp('faseg')
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv('LOCAL_RANK', '0')
        return work_dir, run_tool(
            *('train', DEMO, '--amp', 'bf16', '--work-dir', work_dir),
            *('--cfg-options', *QUICK),
        )


def test_faseg_trains_in_bfloat16(trained_faseg) -> None:
    work_dir, printed = trained_faseg
    losses = [float(x) for x in re.findall(r'  loss: (\S+)', printed)]
    assert len(losses) == 2
    assert np.isfinite(losses).all()
    saved = torch.load(work_dir / 'iter_2.pth')
    assert 'loss_scaler' not in saved['optimizer']
    dtypes = {x.dtype for x in saved['state_dict'].values()}
    assert dtypes == {torch.float32, torch.int64}


@pytest.mark.parametrize(
    ('precision', 'dtype'),
    [('fp16', torch.float16), ('bf16', torch.bfloat16)],
)
def test_amp_predicts_in_that_dtype(precision, dtype, monkeypatch) -> None:
    monkeypatch.setattr(run_options, 'get_device', lambda: 'cpu')
    model = torch.nn.Linear(2, 3)
    model.test_step = model.forward
    run_options.predict_with_amp(model, precision)
    with torch.autocast('cpu', enabled=False):  # as mmengine's test loop does
        assert model.test_step(torch.ones(1, 2)).dtype == dtype
    assert model(torch.ones(1, 2)).dtype == torch.float32


@pytest.mark.parametrize(
    ('amp', 'dtype'),
    [([], torch.float32), (['--amp', 'bf16'], torch.bfloat16)],
)
def test_faseg_is_tested_with_augmentation(
    trained_faseg, tmp_path, monkeypatch, amp, dtype
) -> None:
    dtypes = []
    predict = FASegHead.predict

    def predict_and_record(*arguments):
        scores = predict(*arguments)
        dtypes.append(scores.dtype)
        return scores

    monkeypatch.setattr(FASegHead, 'predict', predict_and_record)
    checkpoint, labels = trained_faseg[0] / 'iter_2.pth', tmp_path / 'labels'
    run_tool(
        *('test', DEMO, checkpoint, '--tta', *amp, '--out', labels),
        *('--work-dir', tmp_path, '--cfg-options', *QUICK),
    )
    # two images, each original and flipped
    assert dtypes == [dtype] * 4
    (metrics,) = tmp_path.glob('*/*.json')
    assert 0 <= json.loads(metrics.read_text())['mIoU'] <= 100
    images = [mmcv.imread(p, 'unchanged') for p in labels.glob('*.png')]
    assert [image.shape for image in images] == [(128, 128)] * 2


def test_seed_keeps_other_randomness_settings() -> None:
    cfg = config_of(
        'train', '--seed', 7, '--cfg-options', 'randomness.deterministic=True'
    )
    assert cfg.randomness == dict(seed=7, deterministic=True)


def test_resume_prefers_the_run_to_pretrained_weights(tmp_path) -> None:
    options = ['--work-dir', tmp_path, '--resume']
    pretrained = ['--cfg-options', 'load_from=pretrained.pth']
    cfg = config_of('train', *options, *pretrained)
    assert not cfg.get('resume', False)  # there is no checkpoint yet
    assert cfg.load_from == 'pretrained.pth'

    latest = tmp_path / 'iter_7.pth'
    torch.save(dict(meta=dict(seed=41)), latest)
    (tmp_path / 'last_checkpoint').write_text('iter_7.pth')
    cfg = config_of('train', *options, *pretrained)
    assert (cfg.resume, cfg.load_from) == (True, str(latest))
    assert cfg.randomness.seed == 41  # before the dataloaders are built
    cfg = config_of('train', *options, '--seed', '3', *pretrained)
    assert cfg.randomness.seed == 3
    other = tmp_path / 'iter_5.pth'
    torch.save({}, other)
    cfg = config_of('train', *options, other, *pretrained)
    assert (cfg.resume, cfg.load_from) == (True, str(other))
    for missing in ('iter_6.pth', tmp_path):
        with pytest.raises(ValueError, match='--resume: there is no file'):
            config_of('train', '--resume', missing)


def test_resume_rejects_schedules_of_another_length(tmp_path) -> None:
    """mmengine would train at the learning rate 0."""
    checkpoint = tmp_path / 'iter_2.pth'
    content = dict(param_schedulers=[dict(end=4)], meta=dict(iter=2))
    torch.save(content, checkpoint)
    cfg = config_of('train', '--resume', checkpoint)
    assert cfg.resume
    with pytest.raises(ValueError, match=r'iteration 8, .* at 4, which'):
        config_of(
            'train',
            *('--resume', checkpoint),
            *('--cfg-options', 'param_scheduler.0.end=8'),
        )


def test_checkpoint_of_another_model_is_rejected(tmp_path) -> None:
    """Also if the config has mmengine's ``CheckpointHook``."""
    checkpoint = tmp_path / 'other.pth'
    torch.save(dict(state_dict={'x': torch.ones(1)}), checkpoint)
    hook = 'default_hooks.checkpoint.type=CheckpointHook'
    options = ('--work-dir', tmp_path, '--cfg-options', hook, *QUICK)
    with pytest.raises(SystemExit, match=r'error: .* lacks .* weights of'):
        run_tool('test', DEMO, checkpoint, *options)


def test_log_adds_backends_to_local_files() -> None:
    cfg = config_of('train', '--log', 'tensorboard', 'wandb')
    kinds = [x['type'] for x in cfg.visualizer.vis_backends]
    assert kinds == [
        'LocalVisBackend',
        'TensorboardVisBackend',
        'WandbVisBackend',
    ]
    run_options.add_logger(cfg, 'wandb')  # not added twice
    assert [x['type'] for x in cfg.visualizer.vis_backends] == kinds
    cfg.pop('visualizer')
    run_options.add_logger(cfg, 'wandb')
    kinds = [x['type'] for x in cfg.visualizer.vis_backends]
    assert kinds == ['LocalVisBackend', 'WandbVisBackend']


def test_show_dir_draws_every_image() -> None:
    cfg = config_of('test', 'a.pth', '--show-dir', 'drawn')
    hook = cfg.default_hooks.visualization
    assert (hook.draw, hook.interval) == (True, 1)
    assert 'show' not in hook
    assert cfg.visualizer.save_dir == 'drawn'
    cfg.pop('visualizer')
    with pytest.raises(ValueError, match='requires a visualizer'):
        run_options.draw_predictions(cfg, False, 'drawn', 2)


def test_predictions_of_a_detector_are_written_as_json(tmp_path) -> None:
    tool = load_tool('test')
    arguments = [str(INSTANCES), 'x.pth', '--out', str(tmp_path)]
    cfg = tool.load_config(tool.parse_args(arguments))
    assert cfg.test_evaluator.outfile_prefix == str(tmp_path / 'results')
    assert 'output_dir' not in cfg.test_evaluator
    arguments += ['--cfg-options', 'test_evaluator=[]']
    with pytest.raises(ValueError, match='needs a metric'):
        tool.load_config(tool.parse_args(arguments))
    config = tmp_path / 'two_metrics.py'
    metrics = [dict(type='CocoPanopticMetric'), dict(type='CocoMetric')]
    config.write_text(
        f'_base_ = {str(INSTANCES)!r}\ntest_evaluator = {metrics}'
    )
    arguments = [str(config), *arguments[1:4], '--format-only']
    cfg = tool.load_config(tool.parse_args(arguments))
    for index, metric in enumerate(cfg.test_evaluator):
        assert metric.outfile_prefix == str(tmp_path / f'results_{index}')
        assert metric.format_only


def test_tta_wraps_the_model() -> None:
    cfg = config_of('test', 'a.pth', '--tta')
    assert cfg.model.type == 'SegTTAModel'
    assert cfg.model.module.type == 'EncoderDecoder'
    assert cfg.test_dataloader.dataset.pipeline == cfg.tta_pipeline


@pytest.mark.parametrize(
    ('flag', 'setting', 'message'),
    [
        ('--show', 'default_hooks.visualization=None', 'visualization'),
        ('--tta', None, 'tta_model and tta_pipeline'),
    ],
)
def test_invalid_arguments_exit_with_message(
    flag, setting, message, tmp_path
) -> None:
    module = load_tool('test')
    config = tmp_path / 'no_tta.py'
    text = CONFIG.read_text()
    config.write_text(text.replace('tta_', 'other_'))
    options = [] if setting is None else ['--cfg-options', setting]
    args = module.parse_args([str(config), 'a.pth', flag, *options])
    with pytest.raises(ValueError, match=message):
        module.load_config(args)


def run_script(
    script: str, *arguments: str, tmp_path: Path, **environment: str
) -> subprocess.CompletedProcess:
    """Runs a shell script with programs that print their arguments."""
    for program in ('python', 'srun'):
        path = tmp_path / program
        path.write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
        path.chmod(0o755)
    path = f'{tmp_path}{os.pathsep}{os.environ["PATH"]}'
    return subprocess.run(
        [str(TOOLS / script), *arguments],
        env={**os.environ, 'PATH': path, **environment},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize(
    ('script', 'arguments', 'passed'),
    [
        ('dist_train.sh', ['c.py', '4'], ['train.py', 'c.py']),
        (
            'dist_test.sh',
            ['c.py', 'a b.pth', '4'],
            ['test.py', 'c.py', 'a b.pth'],
        ),
        ('slurm_train.sh', ['gpu', 'job', 'c.py'], ['train.py', 'c.py']),
        (
            'slurm_test.sh',
            ['gpu', 'job', 'c.py', 'a b.pth'],
            ['test.py', 'c.py', 'a b.pth'],
        ),
    ],
)
def test_scripts_pass_their_arguments(
    script, arguments, passed, tmp_path
) -> None:
    more = ['--cfg-options', 'a=[1, 2]']
    done = run_script(script, *arguments, *more, tmp_path=tmp_path, GPUS='4')
    lines = done.stdout.splitlines()
    launcher = 'slurm' if script.startswith('slurm') else 'pytorch'
    end = ['--launcher', launcher, *passed[1:], *more]
    assert lines[-len(end) :] == end, done.stderr
    assert lines[-len(end) - 1] == str(TOOLS / passed[0])
    count = '--ntasks=4' if launcher == 'slurm' else '--nproc_per_node=4'
    assert count in lines

    too_few = run_script(script, *arguments[:-1], tmp_path=tmp_path)
    assert too_few.returncode == 2
    assert too_few.stderr.startswith('usage: ')


def test_training_checks_data_first(tmp_path) -> None:
    arguments = [CONFIG, '--work-dir', tmp_path]
    wrong = ['--cfg-options', 'model.decode_head.num_classes=5']
    with pytest.raises(SystemExit) as error:
        run_tool('train', *arguments, *wrong)
    assert '-> set model.decode_head.num_classes=7' in str(error.value)
    assert 'pass --no-check to run without' in str(error.value)
    # the loss raises without the check
    with pytest.raises((IndexError, RuntimeError)):
        run_tool('train', *arguments, '--no-check', *wrong)


@pytest.mark.parametrize('tool', ['train', 'test'])
def test_misspelled_names_stop_tools(tool, monkeypatch) -> None:
    """Before the runner is built, and not with --no-check."""
    arguments = [CONFIG, *([CONFIG] * (tool == 'test'))]  # a checkpoint
    wrong = ['--cfg-options', 'train_dataloder.batch_size=4']
    built = []

    def build(cfg: object) -> None:
        built.append(cfg)
        raise KeyError

    monkeypatch.setattr(Runner, 'from_cfg', build)
    with pytest.raises(SystemExit, match='did you mean train_dataloader'):
        run_tool(tool, *arguments, *wrong)
    assert not built
    with pytest.raises(KeyError):
        run_tool(tool, *arguments, '--no-check', *wrong)
    assert built


def test_failing_data_check_does_not_stop_training(monkeypatch) -> None:
    def fail(*arguments: object) -> None:
        raise RuntimeError('unusual')

    warnings: list[str] = []
    monkeypatch.setattr('mmfaseg.data_check.check_dataset', fail)
    monkeypatch.setattr(command_line, '_warn', warnings.append)
    command_line.check_data(config_of('train'))
    assert warnings == ["the data check failed: RuntimeError('unusual')"]


def test_only_main_process_checks_data(monkeypatch) -> None:
    cfg = config_of('train')
    cfg.model.decode_head.num_classes = 5
    monkeypatch.setenv('RANK', '1')
    command_line.check_data(cfg)
    monkeypatch.setenv('RANK', '0')
    with pytest.raises(SystemExit, match='num_classes=5'):
        command_line.check_data(cfg)
