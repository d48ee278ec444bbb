"""User-defined parts can replace each part of the network.

tests/plugin/my_parts.py represents a user's module; all_tiny.py uses all of
its parts.
"""

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
PARTS = {
    'GatedQuery',
    'UncertainWindowAttention',
    'ScaledDecoderLayer',
    'CoordinateEncoding',
    'MaskOnlyMatchingLoss',
    'UnitMaskPredictor',
}


def test_custom_parts_get_gradients_and_are_explored(monkeypatch):
    monkeypatch.syspath_prepend(PLUGIN)
    cfg = Config.fromfile(PLUGIN / 'all_tiny.py')
    init_default_scope(cfg.default_scope)
    torch.manual_seed(0)
    model = MODELS.build(cfg.model)
    names = {type(x).__name__ for x in model.modules()}
    assert names >= PARTS
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
