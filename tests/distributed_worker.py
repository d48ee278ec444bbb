"""Trains a tiny model in several processes for test_distributed.py.

    torchrun --nproc_per_node=N distributed_worker.py CONFIG OUT

Each iteration has the same eight images for any number of processes, and the
losses are sampled at the same points. The first two images of each iteration
have no labels.
"""

import json
import sys
import time

import torch
import torch.distributed as dist
from mmengine.config import Config
from mmengine.model import MMDistributedDataParallel
from mmengine.registry import MODELS, init_default_scope
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample

import mmfaseg  # noqa: F401
from mmfaseg.datasets.shapes_generator import generate_shapes
from mmfaseg.models.losses import mask_classification_loss
from mmfaseg.models.task_modules import mask_matcher

IMAGES, SIZE, ITERATIONS = 8, (64, 96), 8


def fixed_points(shape: tuple[int, int], device: torch.device) -> torch.Tensor:
    """Returns the same points for all masks."""
    generator = torch.Generator().manual_seed(shape[1])
    points = torch.rand(1, shape[1], 2, generator=generator)
    return points.expand(shape[0], -1, -1).to(device)


def make_batch(iteration: int) -> tuple:
    """Returns the images of this process in one iteration."""
    rank, world = dist.get_rank(), dist.get_world_size()
    share = IMAGES // world
    inputs, samples = [], []
    for n in range(rank * share, (rank + 1) * share):
        number = iteration * IMAGES + n
        image, labels = generate_shapes(number, 'train', SIZE)
        if n < 2:  # the images of process 0 of four
            labels[:] = 255
        inputs.append(torch.from_numpy(image).permute(2, 0, 1) / 128.0 - 1)
        sample = SegDataSample(metainfo=dict(img_shape=SIZE))
        data = torch.from_numpy(labels)[None].long()
        sample.gt_sem_seg = PixelData(data=data)
        samples.append(sample)
    return torch.stack(inputs).double(), samples


def main() -> None:
    """Trains, and writes losses and weights."""
    path, out = sys.argv[1:]
    torch.set_num_threads(1)
    dist.init_process_group('gloo')
    mask_classification_loss.draw_points = fixed_points
    mask_matcher.draw_points = fixed_points
    cfg = Config.fromfile(path)
    init_default_scope(cfg.default_scope)
    cfg.model.auxiliary_head.dropout_ratio = 0
    torch.manual_seed(0)
    model = MODELS.build(cfg.model)
    model.init_weights()
    model = model.double().train()
    for module in model.modules():  # whose statistics depend on the process
        if isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
            module.eval()
    parallel = MMDistributedDataParallel(
        model, device_ids=None, broadcast_buffers=False
    )
    optimizer = torch.optim.AdamW(parallel.parameters(), 1e-3)
    history = []
    for iteration in range(ITERATIONS):
        losses = parallel(*make_batch(iteration), mode='loss')
        total, parts = model.parse_losses(losses)
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
        named = torch.stack([x.detach() for x in parts.values()])
        dist.all_reduce(named)
        mean = (named / dist.get_world_size()).tolist()
        history.append(dict(zip(parts, mean, strict=True)))
    if dist.get_rank() == 0:
        torch.save(model.state_dict(), f'{out}.pth')
        with open(f'{out}.json', 'w') as file:
            json.dump(history, file)
    dist.barrier()
    time.sleep(0.1)


if __name__ == '__main__':
    main()
