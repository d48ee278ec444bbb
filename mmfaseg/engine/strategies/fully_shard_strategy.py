"""Sharded training with PyTorch's FSDP2."""

import copy
import re
import time
from collections.abc import Callable, Sequence
from typing import Any

import mmengine
import torch
from mmengine._strategy import DDPStrategy, SingleDeviceStrategy
from mmengine.device import get_device
from mmengine.dist import is_distributed, is_main_process
from mmengine.optim import OptimWrapper, OptimWrapperDict
from mmengine.runner.checkpoint import save_checkpoint
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard

from mmfaseg.registry import STRATEGIES

from ..atomic_backend import ATOMIC
from .sharded_state import gather_full_state, shard_like, shard_optimizer_state

# Classes that are unsharded one at a time. PyTorch unshards a module when it
# is called; heads are not called as modules.
BLOCKS = (
    *('BasicBlock', 'Bottleneck', 'SwinBlock', 'ConvNeXtBlock'),
    *('DeformableEncoderLayer', 'DFPQDecoderLayer'),
    'DeformableDetrTransformerEncoderLayer',
    'Mask2FormerTransformerDecoderLayer',
)


@STRATEGIES.register_module()
class FullyShardStrategy(DDPStrategy):
    """Shards parameters, gradients and optimizer states over processes.

    Produces the same results as ``DDPStrategy`` with less memory and more
    communication; see :func:`torch.distributed.fsdp.fully_shard`. Requires
    ``FlexibleRunner``::

        runner_type = 'FlexibleRunner'
        strategy = dict(type='mmfaseg.FullyShardStrategy')

    Unlike mmengine's ``FSDPStrategy``, which uses FSDP1, it supports CPUs.
    Checkpoints contain the full state and can be resumed with any number of
    processes, with or without the strategy. They are written atomically, as
    with :class:`mmfaseg.SafeCheckpointHook`.

    In evaluation mode, every process has all parameters, as processes may run
    different numbers of forward passes (windows, figures). Without
    ``--launcher``, nothing is sharded.

    Args:
        blocks (Sequence[str], optional): class names of the modules that are
            unsharded one at a time. By default :data:`BLOCKS`, layers of
            mmfaseg's heads and of common backbones.
        reshard_after_forward (bool): reshard a block after its forward pass
            and unshard it again for the backward pass, which saves memory.
        **kwargs (Any): arguments of :class:`mmengine._strategy.DDPStrategy`.

    Raises:
        ValueError: if the model does not contain one of ``blocks``, a
            checkpoint cannot be resumed, or the config has several optimizers,
            a loss scaler (float16), ``compile`` or ``model_wrapper``.
        RuntimeError: if PyTorch is too old (2.6).
    """

    def __init__(
        self,
        *,
        blocks: Sequence[str] | None = None,
        reshard_after_forward: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if self.model_wrapper is not None:
            raise ValueError(
                'FullyShardStrategy does not support model_wrapper; remove '
                f'{self.model_wrapper}'
            )
        self.blocks = blocks
        self.reshard_after_forward = reshard_after_forward

    def _wrap_model(self, model: Any) -> Any:
        if isinstance(model, FSDPModule):
            return model
        if not is_distributed():
            return SingleDeviceStrategy._wrap_model(self, model)
        if not hasattr(FSDPModule, 'set_reshard_after_forward'):
            raise RuntimeError(
                'FullyShardStrategy needs a newer PyTorch than '
                f'{torch.__version__}; update it, or remove the strategy'
            )
        device = get_device()
        model = self.convert_model(model.to(device))
        mesh = init_device_mesh(device, (self.world_size,))
        reshard = self.reshard_after_forward
        blocks = find_blocks(model, self.blocks)
        if not blocks:
            self.logger.warning(
                'FullyShardStrategy: the model contains no known blocks and '
                'is unsharded as a whole; set strategy.blocks to class names'
            )
        for block in reversed(blocks):  # inner ones first
            fully_shard(block, mesh=mesh, reshard_after_forward=reshard)
        fully_shard(model, mesh=mesh)
        _unshard_in_evaluation(model, blocks, reshard)
        model.__deepcopy__ = _reject_deepcopy
        return model

    def compile_model(self, model: nn.Module, compile: Any = False) -> Any:
        """Returns the model; compilation is not supported."""
        if compile:
            raise ValueError(
                'FullyShardStrategy does not support compile; set '
                'compile = False, or remove the strategy'
            )
        return model

    def build_optim_wrapper(
        self, optim_wrapper: Any, model: nn.Module | None = None
    ) -> OptimWrapper:
        """Returns the optimizer wrapper."""
        wrapper = super().build_optim_wrapper(optim_wrapper, model)
        if isinstance(wrapper, OptimWrapperDict):
            raise ValueError(
                'FullyShardStrategy supports one optimizer wrapper, but '
                f'optim_wrapper is a dict that has {len(wrapper)}'
            )
        scaler = getattr(wrapper, 'loss_scaler', None)
        if scaler is not None and scaler.is_enabled():
            raise ValueError(
                'FullyShardStrategy does not support loss scaling; use '
                'bfloat16 without it: '
                "optim_wrapper = dict(dtype='bfloat16', "
                'loss_scale=dict(enabled=False)), or --amp bf16'
            )
        return wrapper

    def model_state_dict(self) -> dict:
        """Returns the full state in the main process.

        All processes must call it.
        """
        state = self.model.state_dict()
        # updated in place to keep the module versions in its metadata
        state.update(
            {key: gather_full_state(value) for key, value in state.items()}
        )
        if not self.model.training:
            self.model.eval()  # state_dict() has resharded it
        return state

    def optim_state_dict(self) -> dict:
        """Returns the full state in the main process.

        All processes must call it.
        """
        return gather_full_state(super().optim_state_dict())

    def load_model_state_dict(
        self,
        state_dict: dict,
        *,
        strict: bool = False,
        revise_keys: Sequence[tuple[str, str]] = ((r'^module.', ''),),
    ) -> None:
        """Loads a full state; all processes must call it."""
        own = self.model.state_dict()
        sharded = copy.copy(state_dict)  # keeps the module versions
        for key, value in state_dict.items():
            name = key
            for pattern, replacement in revise_keys:
                name = re.sub(pattern, replacement, name)
            sharded[key] = shard_like(value, own.get(name))
        super().load_model_state_dict(
            sharded, strict=strict, revise_keys=revise_keys
        )

    def load_optim_state_dict(self, state_dict: dict) -> None:
        """Loads a full state; all processes must call it."""
        optimizer = self.optim_wrapper.optimizer
        super().load_optim_state_dict(
            shard_optimizer_state(state_dict, optimizer)
        )

    def load_checkpoint(
        self,
        filename: str,
        *,
        map_location: Any = 'cpu',
        callback: Callable | None = None,
        **kwargs: Any,
    ) -> dict:
        """Loads a checkpoint or a plain state dict on the CPU."""

        def add_state_dict_key(checkpoint: dict) -> None:
            if 'state_dict' not in checkpoint:
                weights = copy.copy(checkpoint)
                checkpoint.clear()
                checkpoint['state_dict'] = weights
            if callback is not None:
                callback(checkpoint)

        return super().load_checkpoint(
            filename,
            map_location='cpu' if map_location == 'default' else map_location,
            callback=add_state_dict_key,
            **kwargs,
        )

    def resume(
        self, filename: str, *, callback: Callable | None = None, **kwargs: Any
    ) -> dict:
        """Resumes from a checkpoint with the whole training state."""

        def check(checkpoint: dict) -> None:
            required = ['meta', 'optimizer']
            if hasattr(self, 'param_schedulers'):
                required.append('param_schedulers')
            missing = [x for x in required if x not in checkpoint]
            if missing:
                raise ValueError(
                    f'{filename} cannot be resumed: it has no '
                    f'{", ".join(missing)}. Start from its weights instead: '
                    'set load_from and remove --resume'
                )
            if callback is not None:
                callback(checkpoint)

        return super().resume(filename, callback=check, **kwargs)

    def save_checkpoint(
        self,
        filename: str,
        *,
        save_optimizer: bool = True,
        save_param_scheduler: bool = True,
        extra_ckpt: dict | None = None,
        callback: Callable | None = None,
    ) -> None:
        """Writes the full state in the main process."""
        content = dict(state_dict=self.model_state_dict())
        if save_optimizer and hasattr(self, 'optim_wrapper'):
            content['optimizer'] = self.optim_state_dict()
        if save_param_scheduler and hasattr(self, 'param_schedulers'):
            content['param_schedulers'] = self.scheduler_state_dict()
        if not is_main_process():
            return
        content.update(extra_ckpt or {})
        content['meta'] = dict(
            content.get('meta', {}),
            seed=self.seed,
            time=time.strftime('%Y%m%d_%H%M%S'),
            mmengine_version=mmengine.__version__,
        )
        if callback is not None:
            callback(content)
        is_local = '://' not in filename
        backend = dict(backend=ATOMIC) if is_local else None
        save_checkpoint(content, filename, backend_args=backend)


def find_blocks(
    model: nn.Module, names: Sequence[str] | None
) -> list[nn.Module]:
    """Returns the modules of the given classes, outer modules first.

    Args:
        model (nn.Module): model to search.
        names (Sequence[str], optional): class names, all of which must occur;
            by default :data:`BLOCKS`, any of which may be absent.

    Raises:
        ValueError: if a class in ``names`` does not occur.
    """
    classes = {type(x).__name__ for x in model.modules()}
    for name in names or ():
        if name not in classes:
            raise ValueError(
                f'FullyShardStrategy: blocks={list(names or ())}, but the '
                f'model has no {name!r}; it has {sorted(classes)}'
            )
    chosen = BLOCKS if names is None else names
    return [x for x in model.modules() if type(x).__name__ in chosen]


def _reject_deepcopy(memo: dict) -> Any:
    raise ValueError(
        'FullyShardStrategy: a sharded model cannot be copied; remove EMAHook '
        'or the strategy'
    )


def _unshard_in_evaluation(
    model: Any, blocks: Sequence[Any], reshard_after_forward: bool
) -> None:
    """Makes ``model.eval()`` unshard all parameters.

    Only blocks need ``reshard_after_forward``: PyTorch does not reshard the
    root module after its forward pass.
    """
    train = model.train

    def unshard_and_set_mode(mode: bool = True) -> Any:
        for part in (model, *blocks):
            part.reshard() if mode else part.unshard()
        for block in blocks:
            block.set_reshard_after_forward(
                mode and reshard_after_forward, recurse=False
            )
        return train(mode)

    model.train = unshard_and_set_mode
