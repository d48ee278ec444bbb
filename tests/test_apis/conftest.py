"""Work directories of untrained models."""

import threading
from collections.abc import Callable
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope

import mmfaseg  # noqa: F401
from mmfaseg.datasets import ShapesDataset

CLASSES = list(ShapesDataset.METAINFO['classes'])


@pytest.fixture(scope='session')
def make_work_dir(root, tmp_path_factory) -> Callable[[str], Path]:
    """Returns a function that makes the work dir of a config."""

    def make(name: str) -> Path:
        folder = tmp_path_factory.mktemp('work_dir')
        (path,) = root.glob(f'configs/*/{name}.py')
        cfg = Config.fromfile(path)
        init_default_scope(cfg.default_scope)
        torch.manual_seed(0)
        model = MODELS.build(cfg.model)
        model.init_weights()
        # queries with different classes and masks, as after training
        decoder = model.decode_head.transformer_decoder
        torch.nn.init.normal_(decoder.predictor.class_embed.weight)
        for name_of, x in decoder.named_parameters():
            if name_of.endswith(('out_proj.weight', 'ffn.2.weight')):
                x.data *= 0.05
            if 'mask_embed' in name_of and x.dim() > 1:
                torch.nn.init.normal_(x, std=x[0].numel() ** -0.5)
        meta = dict(classes=CLASSES, palette=[[9, 9, 9]] * 7)
        state = dict(
            state_dict=model.state_dict(), meta=dict(dataset_meta=meta)
        )
        torch.save(state, folder / 'iter_20.pth')
        cfg.dump(str(folder / f'{name}.py'))
        return folder

    return make


@pytest.fixture(scope='session')
def work_dir(make_work_dir) -> Path:
    """The FASeg of the demo."""
    return make_work_dir('faseg_r18_1xb8-demo_shapes-128x128')


@pytest.fixture(scope='session')
def baseline_dir(make_work_dir) -> Path:
    """The Mask2Former of the ablations."""
    return make_work_dir('mask2former_r18_1xb8-1k_shapes-128x128')


@pytest.fixture(scope='session')
def serve() -> Callable[[Any], AbstractContextManager[str]]:
    """Serves an application from another thread; yields its address."""
    uvicorn = pytest.importorskip('uvicorn')

    @contextmanager
    def run(app):
        # log_config would close the log files of trainings in this process
        config = uvicorn.Config(app, port=0, log_config=None)
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, daemon=True)
        thread.start()
        while not server.started:
            assert thread.is_alive()
        port = server.servers[0].sockets[0].getsockname()[1]
        try:
            yield f'http://127.0.0.1:{port}'
        finally:
            server.should_exit = True
            thread.join(10)

    return run
