"""Losses are finite in float32, bfloat16 and float16."""

import pytest
import torch
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from mmengine.runner import Runner

CONFIG = 'configs/faseg/faseg_r18_1xb8-demo_shapes-128x128.py'
ITERATIONS = 80
DEVICES = ['cpu'] + ['cuda'] * torch.cuda.is_available()


@pytest.mark.slow
@pytest.mark.parametrize('device', DEVICES)
@pytest.mark.parametrize('dtype', ['float32', 'bfloat16', 'float16'])
def test_losses_are_finite_and_decrease(dtype, device, root, tmp_path):
    """The same steps as mmengine's AmpOptimWrapper, which needs a GPU."""
    cfg = Config.fromfile(root / CONFIG)
    cfg.merge_from_dict(
        {
            'work_dir': str(tmp_path),
            'experiment_name': tmp_path.name,
            'train_dataloader.batch_size': 1,
            'train_dataloader.dataset.image_size': (64, 64),
            'train_dataloader.num_workers': 0,
            'train_dataloader.persistent_workers': False,
            'randomness': dict(seed=0),
        }
    )
    runner = Runner.from_cfg(cfg)
    network = runner.model.to(device).train()
    images = iter(runner.build_dataloader(cfg.train_dataloader, seed=0))
    optimizer = torch.optim.AdamW(network.parameters(), 1e-3)
    scaler = torch.amp.GradScaler(
        device, enabled=dtype == 'float16', init_scale=2.0**14
    )
    autocast = torch.autocast(
        device, getattr(torch, dtype), enabled=dtype != 'float32'
    )
    totals, num_skipped = [], 0
    for _ in range(ITERATIONS):
        batch = network.data_preprocessor(next(images), True)
        with autocast:
            losses = network(**batch, mode='loss')
        for name, loss in losses.items():
            assert torch.as_tensor(loss).isfinite().all(), name
        total, _ = network.parse_losses(losses)
        totals.append(total.item())
        scaler.scale(total).backward()
        scaler.unscale_(optimizer)
        norm = torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        num_skipped += not norm.isfinite()
        scaler.step(optimizer)
        scaler.update()
        optimizer.zero_grad()
    for name, value in network.state_dict().items():
        assert value.isfinite().all(), name
    # the scaler skips steps until it has found its factor
    assert num_skipped <= (10 if dtype == 'float16' else 0)
    assert sum(totals[-20:]) < 0.9 * sum(totals[:20])


@pytest.mark.smoke
def test_bfloat16_optim_wrapper_keeps_weights_in_float32():
    model = torch.nn.Linear(4, 2)
    before = model.weight.clone()
    wrapper = build_optim_wrapper(
        model,
        dict(
            type='mmfaseg.Bfloat16OptimWrapper',
            optimizer=dict(type='SGD', lr=0.1),
            accumulative_counts=2,
        ),
    )
    wrapper.initialize_count_status(model, 0, 2)
    for step in range(2):
        with wrapper.optim_context(model):
            output = model(torch.ones(3, 4))
        assert output.dtype == torch.bfloat16
        wrapper.update_params(output.float().sum())
        assert torch.equal(model.weight, before) == (step == 0)
    assert model.weight.dtype == torch.float32
    # the losses are divided by 2, and the gradient of a weight is 3
    torch.testing.assert_close(model.weight, before - 0.1 * 3)
    assert model(torch.ones(3, 4)).dtype == torch.float32
