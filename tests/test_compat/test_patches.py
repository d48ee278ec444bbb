import importlib.util
import pickle
import sys
import zipfile
from functools import partial
from threading import Thread

import pytest
import torch
from mmengine.logging import HistoryBuffer
from mmengine.model import BaseModel, revert_sync_batchnorm
from mmengine.runner import Runner, load_checkpoint
from mmengine.utils.dl_utils.misc import mmcv_full_available

import mmfaseg
from mmfaseg.compat import apply_patches

pytestmark = pytest.mark.smoke

COMPILED = """
import sys
import mmcv
mmcv.__path__.append({directory!r})
import mmfaseg
from mmcv.ops.nms import ext_module
assert sys.modules['mmcv._ext'].IS_COMPILED
assert ext_module.IS_COMPILED
print(mmfaseg.stack_info())
"""


class MeanModel(BaseModel):
    """A model of a linear layer and a SyncBN for runs of a runner."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(2, 1)
        self.norm = torch.nn.SyncBatchNorm(1)

    def forward(
        self, inputs: list[torch.Tensor], mode: str = 'tensor'
    ) -> dict[str, torch.Tensor]:
        assert mode == 'loss'
        return dict(loss=self.norm(self.layer(torch.stack(inputs))).mean())


def train(work_dir: str, max_iters: int, resume: bool = False) -> Runner:
    dataset = [dict(inputs=torch.full((2,), float(i))) for i in range(8)]
    runner = Runner(
        MeanModel(),
        work_dir=work_dir,
        train_dataloader=dict(
            dataset=dataset,
            batch_size=2,
            sampler=dict(type='InfiniteSampler', shuffle=True),
        ),
        optim_wrapper=dict(optimizer=dict(type='AdamW', lr=0.1)),
        train_cfg=dict(type='IterBasedTrainLoop', max_iters=max_iters),
        param_scheduler=[
            dict(type='LinearLR', start_factor=0.1, by_epoch=False, end=2),
            dict(type='PolyLR', by_epoch=False, begin=2, end=8),
            dict(type='CosineAnnealingLR', by_epoch=False, T_max=8),
            dict(type='MultiStepLR', by_epoch=False, milestones=[6]),
        ],
        default_hooks=dict(
            checkpoint=dict(type='CheckpointHook', by_epoch=False, interval=2),
            logger=dict(type='LoggerHook', interval=1),
        ),
        custom_hooks=[dict(type='EMAHook')],
        resume=resume,
        experiment_name=f'{work_dir}-{max_iters}',
    )
    runner.train()
    return runner


@pytest.fixture(scope='module')
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> str:
    work_dir = tmp_path_factory.mktemp('run')
    train(str(work_dir), max_iters=4)
    return str(work_dir / 'iter_4.pth')


def test_ops_import_without_extension() -> None:
    from mmcv.ops import MultiScaleDeformableAttention, point_sample

    assert MultiScaleDeformableAttention is not None
    assert point_sample is not None


def test_models_of_mmseg_and_mmdet_import() -> None:
    import mmdet.models
    import mmseg.models

    assert mmseg.models.EncoderDecoder
    assert mmdet.models.MSDeformAttnPixelDecoder


def test_placeholder_is_removed_after_import() -> None:
    assert 'mmcv._ext' not in sys.modules
    assert importlib.util.find_spec('mmcv._ext') is None
    assert not mmcv_full_available()


def test_apply_patches_is_idempotent() -> None:
    import mmcv.ops

    before = mmcv.ops, len(torch.serialization.get_safe_globals())
    apply_patches()
    after = (
        sys.modules['mmcv.ops'],
        len(torch.serialization.get_safe_globals()),
    )
    assert after == before
    assert 'mmcv._ext' not in sys.modules


def test_missing_op_raises_with_its_name() -> None:
    from mmcv.ops import nms

    boxes = torch.tensor([[0.0, 0.0, 1.0, 1.0]])
    mmcv = ' '.join(mmfaseg.stack_info().packages['mmcv'])
    with pytest.raises(RuntimeError, match=f"'nms' requires.*{mmcv} has none"):
        nms(boxes, torch.ones(1), 0.5)


def test_revert_sync_batchnorm() -> None:
    model = revert_sync_batchnorm(MeanModel())
    assert not isinstance(model.norm, torch.nn.SyncBatchNorm)
    assert model([torch.ones(2), torch.zeros(2)], mode='loss')[
        'loss'
    ].isfinite()


def test_compiled_mmcv_is_used(tmp_path, run_python, monkeypatch) -> None:
    monkeypatch.setenv('MMFASEG_OPS_BACKEND', 'auto')
    (tmp_path / '_ext.py').write_text(
        'IS_COMPILED = True\n'
        'def __getattr__(name):\n'
        '    if name.startswith("__"):\n'
        '        raise AttributeError(name)\n'
        '    return lambda *args: None\n'
    )
    done = run_python('-c', COMPILED.format(directory=str(tmp_path)))
    assert 'mmcv on cuda' in done.stdout


def test_broken_compiled_mmcv_raises(tmp_path, run_python) -> None:
    (tmp_path / '_ext.py').write_text('raise ImportError("no symbol _Z")\n')
    script = COMPILED.format(directory=str(tmp_path))
    done = run_python('-c', script, check=False)
    assert done.returncode != 0
    assert f'do not load with torch {mmfaseg.stack_info().torch}' in (
        done.stdout
    )
    assert 'no symbol _Z' in done.stdout


def test_checkpoint_loads_with_weights_only(checkpoint: str) -> None:
    loaded = torch.load(checkpoint, weights_only=True)
    scalars = loaded['message_hub']['log_scalars']
    assert scalars['train/loss'].data[0].shape == (4,)
    assert scalars['train/loss'].statistics('mean', 4) is not None


def test_training_resumes(checkpoint: str, tmp_path) -> None:
    last = tmp_path / 'last_checkpoint'
    last.write_text(checkpoint)
    runner = train(str(tmp_path), max_iters=6, resume=True)
    assert runner.iter == 6
    assert (tmp_path / 'iter_6.pth').exists()
    assert not (tmp_path / 'iter_2.pth').exists()  # iterations 1-4 not rerun
    history = runner.message_hub.get_scalar('train/loss').data[0]
    assert len(history) == 6


def test_checkpoint_of_numpy_1_loads(checkpoint: str, tmp_path) -> None:
    other = tmp_path / 'numpy_1.pth'
    with (
        zipfile.ZipFile(checkpoint) as source,
        zipfile.ZipFile(other, 'w') as target,
    ):
        for name in source.namelist():
            content = source.read(name)
            if name.endswith('/data.pkl'):
                assert b'cnumpy._core.multiarray\n' in content
                content = content.replace(
                    b'cnumpy._core.multiarray\n', b'cnumpy.core.multiarray\n'
                )
            target.writestr(name, content)
    assert torch.load(other, weights_only=True)['message_hub']


class AttributeAccess:
    """Pickled as a call of getattr."""

    def __init__(self, owner: object, name: str) -> None:
        self.arguments = owner, name

    def __reduce__(self) -> tuple:
        return getattr, self.arguments


@pytest.mark.parametrize(
    'value',
    [
        AttributeAccess(HistoryBuffer, '__init__'),
        AttributeAccess(torch.nn.Module, 'mean'),
    ],
)
def test_malicious_checkpoint_cannot_access_attributes(
    value, tmp_path
) -> None:
    torch.save(value, tmp_path / 'malicious.pth')
    with pytest.raises(pickle.UnpicklingError):
        torch.load(tmp_path / 'malicious.pth', weights_only=True)


class _CreateFile:
    """Creates a file when it is unpickled."""

    def __init__(self, path) -> None:
        self.path = str(path)

    def __reduce__(self):
        return open, (self.path, 'w')


@pytest.mark.parametrize('way', ['file', 'download', 'load_from'])
def test_loading_checkpoints_executes_no_code(
    way, tmp_path, monkeypatch
) -> None:
    """Local files, and downloads from a local server."""
    from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

    from mmengine.runner.checkpoint import _load_checkpoint

    created = tmp_path / 'created'
    torch.save(
        {'state_dict': _CreateFile(created)}, tmp_path / 'malicious.pth'
    )
    torch.save({'state_dict': {}}, tmp_path / 'good.pth')
    monkeypatch.setenv('TORCH_HOME', str(tmp_path / 'home'))
    server = ThreadingHTTPServer(
        ('127.0.0.1', 0),
        partial(SimpleHTTPRequestHandler, directory=str(tmp_path)),
    )
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        place = f'http://127.0.0.1:{server.server_port}'
        if way == 'file':
            place = str(tmp_path)
        assert _load_checkpoint(f'{place}/good.pth') == {'state_dict': {}}
        with pytest.raises(ValueError, match=r'malicious\.pth cannot be read'):
            if way == 'load_from':
                load_checkpoint(
                    torch.nn.Linear(1, 1), f'{place}/malicious.pth'
                )
            else:
                _load_checkpoint(f'{place}/malicious.pth')
    finally:
        server.shutdown()
    assert not created.exists()


@pytest.fixture
def _without_torchvision(monkeypatch) -> None:
    find_spec = importlib.util.find_spec

    def find(name: str, *arguments):
        return None if name == 'torchvision' else find_spec(name, *arguments)

    monkeypatch.setattr(importlib.util, 'find_spec', find)


@pytest.mark.usefixtures('_without_torchvision')
@pytest.mark.parametrize('depth', [18, 50, 101])
def test_torchvision_weights_load_without_torchvision(
    depth, tmp_path, monkeypatch
) -> None:
    """The configs of this package use these three."""
    from mmengine.runner.checkpoint import _load_checkpoint

    urls = []

    def download(url, path, progress):
        urls.append(url)
        torch.save({'weight': torch.ones(2)}, path)

    monkeypatch.setenv('TORCH_HOME', str(tmp_path))
    monkeypatch.setattr(torch.hub, 'download_url_to_file', download)
    state = _load_checkpoint(f'torchvision://resnet{depth}')
    assert state['weight'].tolist() == [1, 1]
    (url,) = urls
    start = f'https://download.pytorch.org/models/resnet{depth}-'
    assert url.startswith(start)


def test_files_with_generic_names_are_cached_by_url(
    tmp_path, monkeypatch
) -> None:
    from mmengine.runner.checkpoint import _load_checkpoint

    def download(url, path, progress):
        torch.save(dict(url=url), path)

    monkeypatch.setenv('TORCH_HOME', str(tmp_path))
    monkeypatch.setattr(torch.hub, 'download_url_to_file', download)
    for _ in range(2):
        for model in 'ab':
            url = f'https://example.org/{model}/pytorch_model.bin'
            assert _load_checkpoint(url) == dict(url=url)
    assert len(list(tmp_path.rglob('*_pytorch_model.bin'))) == 2


def test_failed_download_names_the_file_to_copy(tmp_path, monkeypatch) -> None:
    from mmengine.runner.checkpoint import _load_checkpoint

    monkeypatch.setenv('TORCH_HOME', str(tmp_path))
    target = tmp_path / 'hub/checkpoints/weights.pth'
    message = f'cannot be downloaded: .* copy it to {target}'
    with pytest.raises(OSError, match=message):
        _load_checkpoint('http://127.0.0.1:9/weights.pth')


@pytest.mark.usefixtures('_without_torchvision')
def test_newer_torchvision_weights_name_the_release_to_install(
    monkeypatch,
) -> None:
    from mmengine.runner.checkpoint import _load_checkpoint

    monkeypatch.setattr(importlib.metadata, 'version', lambda _: '2.13.0+cpu')
    message = r'pip install "torchvision==0\.28\.\*"`; without it, choose from'
    with pytest.raises(ValueError, match=message):
        _load_checkpoint('torchvision://resnet50.imagenet1k_v2')
