import re

import pytest
import torch

pytestmark = pytest.mark.slow
CONFIG = 'configs/faseg/faseg_r18_1xb8-demo_shapes-128x128.py'
INSTANCES = 'configs/faseg_coco/faseg_r18_1xb8-demo_shapes-instance-128x128.py'


def small(max_iters):
    return [
        '--cfg-options',
        f'train_cfg.max_iters={max_iters}',
        'train_dataloader.batch_size=2',
        'train_dataloader.num_workers=0',
        'train_dataloader.persistent_workers=False',
        'val_dataloader.num_workers=0',
        'val_dataloader.persistent_workers=False',
        'val_dataloader.dataset.length=3',
        'default_hooks.checkpoint.interval=2',
    ]


def test_demo_trains_resumes_and_draws(root, run_python, tmp_path):
    demo = root / 'tools/demo/run_demo.py'
    first = run_python(demo, root / CONFIG, '--out', tmp_path, *small(2))
    for step in range(1, 5):
        assert f'[{step}/4]' in first.stdout
    assert first.stdout.count('|  Class  |') == 1
    assert 'What next' in first.stdout
    for name in ('predictions.png', 'focus.png'):
        (tmp_path / name).unlink()

    again = run_python(
        demo, root / CONFIG, '--out', tmp_path, '--resume', *small(4)
    )
    assert re.findall(r'^iter (\d)/4', again.stdout, re.M)[0] == '2'
    assert (tmp_path / 'train' / 'iter_4.pth').exists()
    assert (tmp_path / 'predictions.png').exists()
    assert (tmp_path / 'focus.png').exists()

    drawn = run_python(
        root / 'tools/analysis_tools/draw_figures.py',
        root / CONFIG,
        tmp_path / 'train' / 'iter_4.pth',
        '--device=cpu',
        f'--out={tmp_path / "drawn"}',
        '--indices',
        1,
        2,
    )
    assert drawn.stdout.count('wrote ') == 2
    assert len(list((tmp_path / 'drawn').glob('*.png'))) == 2

    drawn = run_python(
        root / 'tools/analysis_tools/draw_figures.py',
        root / CONFIG,
        tmp_path / 'train' / 'iter_4.pth',
        '--device=cpu',
        '--indices=999999',
        check=False,
    )
    assert 'error: index 999999 is out of range' in drawn.stdout
    assert 'Traceback' not in drawn.stdout


def test_figures_of_other_weights_are_not_drawn(root, run_python, tmp_path):
    torch.save(dict(state_dict={}), tmp_path / 'x.pth')
    done = run_python(
        root / 'tools/analysis_tools/draw_figures.py',
        *(root / CONFIG, tmp_path / 'x.pth', '--device=cpu'),
        f'--out={tmp_path / "drawn"}',
        check=False,
    )
    assert done.returncode == 1
    assert re.search(r'^error: .*x\.pth', done.stdout, re.M)
    assert not (tmp_path / 'drawn').exists()


def test_demo_failure_exits_with_status(root, run_python, tmp_path):
    done = run_python(
        root / 'tools/demo/run_demo.py',
        root / CONFIG,
        '--out',
        tmp_path,
        '--cfg-options',
        'train_dataloader.dataset.length=0',
        check=False,
    )
    assert done.returncode == 1
    assert 'length must be at least 1' in done.stdout


def test_demo_of_instances_trains_and_draws(root, run_python, tmp_path):
    data = tmp_path / 'data'
    writer = root / 'tools/dataset_converters/shapes_to_coco.py'
    run_python(writer, '--out', data, '--train', 4, '--val', 3, '--test', 1)
    options = small(2)
    options.remove('val_dataloader.dataset.length=3')
    options += [
        *(
            f'{split}_dataloader.dataset.data_root={data}/'
            for split in ('train', 'val')
        ),
        f'val_evaluator.ann_file={data}/annotations/instances_val.json',
    ]
    config = root / INSTANCES
    out = tmp_path / 'out'
    done = run_python(
        root / 'tools/demo/run_demo.py', config, '--out', out, *options
    )
    assert '[4/4]' in done.stdout
    assert re.search(r'mask AP \d', done.stdout)
    assert (out / 'predictions.png').exists()
    assert (out / 'focus.png').exists()

    drawn = run_python(
        root / 'tools/analysis_tools/draw_figures.py',
        out / 'train' / config.name,
        out / 'train' / 'iter_2.pth',
        '--device=cpu',
        f'--out={tmp_path / "drawn"}',
        '--indices',
        2,
    )
    assert drawn.stdout.count('wrote ') == 2
