"""User-defined parts can replace each part of the network.

tests/plugin/my_parts.py represents a user's module; each of its configs
replaces one part.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import DATASETS, MODELS, init_default_scope
from PIL import Image

from mmfaseg.visualization.explorer import explore

ROOT = Path(__file__).parent.parent
PLUGIN = ROOT / 'tests/plugin'
PARTS = dict(
    query='GatedQuery',
    attention='UncertainWindowAttention',
    layer='ScaledDecoderLayer',
    encoding='CoordinateEncoding',
)
EACH_PART = pytest.mark.parametrize('part', PARTS)


@pytest.fixture
def load(monkeypatch):
    """Loads the config of a part."""
    monkeypatch.syspath_prepend(PLUGIN)

    def load(part):
        cfg = Config.fromfile(PLUGIN / f'{part}_tiny.py')
        init_default_scope(cfg.default_scope)
        return cfg

    return load


@EACH_PART
def test_custom_part_gets_gradients_and_is_explored(load, part):
    cfg = load(part)
    torch.manual_seed(0)
    model = MODELS.build(cfg.model)
    names = {type(x).__name__ for x in model.modules()}
    assert PARTS[part] in names
    cfg.train_dataloader.dataset.update(length=1)
    dataset = DATASETS.build(cfg.train_dataloader.dataset)
    item = dataset[0]
    data = dict(inputs=[item['inputs']], data_samples=[item['data_samples']])
    batch = model.data_preprocessor(data, True)
    losses = model(**batch, mode='loss')
    total, _ = model.parse_losses(losses)
    total.backward()
    missing = [k for k, x in model.named_parameters() if x.grad is None]
    assert missing == []
    meta = dataset.metainfo
    view = explore(model.eval(), item, meta['classes'], meta['palette'])
    assert [x.stride for x in view.layers] == [32, 16, 8, 4, 32]
    for x in view.layers:
        np.testing.assert_allclose(x.attention.sum((1, 2)), 1, rtol=1e-4)
        assert bool(x.windows) == (x.stride == 4)


def _run(*command, cwd):
    done = subprocess.run(
        [sys.executable, *map(str, command)],
        cwd=cwd,
        env={
            **os.environ,
            'PYTHONPATH': os.pathsep.join(map(str, (ROOT, PLUGIN))),
            'OMP_NUM_THREADS': '1',
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


@pytest.mark.slow
def test_each_part_trains_as_a_row_of_the_study(tmp_path):
    configs = [PLUGIN / f'{row}_tiny.py' for row in PARTS]
    tool = ROOT / 'tools/analysis_tools/study.py'
    out = tmp_path / 'study'
    _run(tool, *configs, '--seeds', 0, '--out', out, cwd=tmp_path)
    summary = json.loads((out / 'summary.json').read_text())
    assert [x['row'] for x in summary['rows']] == list(PARTS)
    for row in summary['rows']:
        assert 0 <= row['metrics']['mIoU']['cells']['0'] <= 100


@pytest.mark.slow
def test_all_parts_train_resume_and_are_explored_and_exported(tmp_path):
    work_dir = tmp_path / 'work_dir'
    config = PLUGIN / 'all_tiny.py'
    train = ROOT / 'tools/train.py'
    _run(train, config, '--work-dir', work_dir, cwd=tmp_path)
    more = ('--resume', '--cfg-options', 'train_cfg.max_iters=6')
    printed = _run(train, config, '--work-dir', work_dir, *more, cwd=tmp_path)
    assert 'resumed epoch: 0, iter: 4' in printed
    first, last = (
        torch.load(work_dir / f'iter_{n}.pth', weights_only=True)
        for n in (4, 6)
    )
    assert last['message_hub']['runtime_info']['iter'] == 5
    assert last['state_dict'].keys() == first['state_dict'].keys()
    decoder = 'decode_head.transformer_decoder.'
    for name in (
        decoder + 'positional_query.gate',
        decoder + 'layers.0.scale',
        decoder + 'layers.3.cross_attn.attn.in_proj_weight',
        'decode_head.pixel_decoder.positional_encodings.0.proj.weight',
    ):
        before, after = first['state_dict'][name], last['state_dict'][name]
        assert not torch.equal(before, after), f'{name} must learn'

    image = np.random.default_rng(0).integers(0, 256, (64, 96, 3), np.uint8)
    Image.fromarray(image).save(tmp_path / 'image.png')
    page = ('image.png', '--out', 'focus.html')
    printed = _run('-m', 'mmfaseg.explore', work_dir, *page, cwd=tmp_path)
    assert 'queries' in printed

    export = ROOT / 'tools/deployment/export.py'
    target = tmp_path / 'network.onnx'
    sizes = ('--sizes', '1x64x96', '2x32x64')
    printed = _run(export, work_dir, target, *sizes, cwd=tmp_path)
    assert printed.count('maximum difference') == 3  # one is always compared
    assert target.stat().st_size > 10_000
