"""Parameters, gradients and optimizer states in shards: PyTorch's FSDP2."""

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

# What is whole one at a time. Each is called as a module, which is where
# PyTorch fetches the parameters; heads are not.
BLOCKS = (
    *('BasicBlock', 'Bottleneck', 'SwinBlock', 'ConvNeXtBlock'),
    *('DeformableEncoderLayer', 'DFPQDecoderLayer'),
    'DeformableDetrTransformerEncoderLayer',
    'Mask2FormerTransformerDecoderLayer',
)


@STRATEGIES.register_module()
class FullyShardStrategy(DDPStrategy):
    """Each process keeps a share of parameters, gradients and optimizer.

    It trains as several processes do that each have everything, and needs
    less memory, for more communication: see :func:`torch.distributed.fsdp.
    fully_shard`. For ``runner_type = 'FlexibleRunner'``::

        runner_type = 'FlexibleRunner'
        strategy = dict(type='mmfaseg.FullyShardStrategy')

    (mmengine's ``FSDPStrategy`` is made of the older FSDP, which has no code
    for CPUs.) Checkpoints are those of a network that is whole: any number of
    processes goes on from them, with a strategy or without. They are written
    as :class:`mmfaseg.SafeCheckpointHook` has them written.

    In evaluation mode every process has all parameters: images may need
    different numbers of windows then, and one process may draw what others do
    not. One process without ``--launcher`` has nothing to share.

    Args:
        blocks (Sequence[str], optional): names of classes whose modules are
            whole one at a time, each of them called as a module. By default
            the blocks of our heads and of usual backbones, as far as the
            network has them.
        reshard_after_forward (bool): fetch the parameters of a block for the
            backward pass once more, rather than keep them.
        **kwargs: see :class:`mmengine._strategy.DDPStrategy`.

    Raises:
        ValueError: if the network has none of the named blocks, there are
            several optimizers, a scaler of the loss (float16), ``compile`` or
            ``model_wrapper``, or a checkpoint cannot be resumed.
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
                'FullyShardStrategy wraps no model: take model_wrapper out of '
                f'the strategy, got {self.model_wrapper}'
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
                f'FullyShardStrategy: PyTorch {torch.__version__} is too old '
                'for it; install a newer one, or train without the strategy'
            )
        device = get_device()
        model = self.convert_model(model.to(device))
        mesh = init_device_mesh(device, (self.world_size,))
        again = self.reshard_after_forward
        blocks = find_blocks(model, self.blocks)
        if not blocks:
            self.logger.warning(
                'FullyShardStrategy: the network has no block that it knows, '
                'and is whole while it is used; name some in strategy.blocks'
            )
        for block in reversed(blocks):  # inner ones first
            fully_shard(block, mesh=mesh, reshard_after_forward=again)
        fully_shard(model, mesh=mesh)
        _unshard_in_evaluation(model, blocks, again)
        model.__deepcopy__ = _reject_deepcopy
        return model

    def compile_model(self, model: nn.Module, compile: Any = False) -> Any:
        """Refuses to compile.

        Raises:
            ValueError: if it is asked to.
        """
        if compile:
            raise ValueError(
                'FullyShardStrategy: compile is not supported here; set '
                'compile = False, or train without the strategy'
            )
        return model

    def build_optim_wrapper(
        self, optim_wrapper: Any, model: nn.Module | None = None
    ) -> OptimWrapper:
        """See mmengine.

        Raises:
            ValueError: if there are several, or the loss is scaled.
        """
        wrapper = super().build_optim_wrapper(optim_wrapper, model)
        if isinstance(wrapper, OptimWrapperDict):
            raise ValueError(
                'FullyShardStrategy works with one optimizer, and '
                f'optim_wrapper has {len(wrapper)}'
            )
        scaler = getattr(wrapper, 'loss_scaler', None)
        if scaler is not None and scaler.is_enabled():
            raise ValueError(
                'FullyShardStrategy: processes would scale the loss each in '
                'its own way; take bfloat16, which needs no scaler: '
                "optim_wrapper = dict(dtype='bfloat16', "
                'loss_scale=dict(enabled=False)), or --amp bf16'
            )
        return wrapper

    def model_state_dict(self) -> dict:
        """Returns the whole state in the first process; all have to ask."""
        state = self.model.state_dict()
        # in place: it knows the versions of its modules
        state.update(
            {key: gather_full_state(value) for key, value in state.items()}
        )
        if not self.model.training:
            self.model.eval()  # to ask for the state made shards of it
        return state

    def optim_state_dict(self) -> dict:
        """Returns the whole state in the first process; all have to ask."""
        return gather_full_state(super().optim_state_dict())

    def load_model_state_dict(
        self,
        state_dict: dict,
        *,
        strict: bool = False,
        revise_keys: Sequence[tuple[str, str]] = ((r'^module.', ''),),
    ) -> None:
        """Loads a whole state; all processes have to."""
        own = self.model.state_dict()
        sharded = copy.copy(state_dict)  # knows the versions of its modules
        for key, value in state_dict.items():
            name = key
            for pattern, replacement in revise_keys:
                name = re.sub(pattern, replacement, name)
            sharded[key] = shard_like(value, own.get(name))
        super().load_model_state_dict(
            sharded, strict=strict, revise_keys=revise_keys
        )

    def load_optim_state_dict(self, state_dict: dict) -> None:
        """Loads a whole state; all processes have to."""
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
        """Loads a file, weights alone, too, to the CPU, where there is room.

        See mmengine.
        """

        def complete(checkpoint: dict) -> None:
            if 'state_dict' not in checkpoint:
                weights = copy.copy(checkpoint)
                checkpoint.clear()
                checkpoint['state_dict'] = weights
            if callback is not None:
                callback(checkpoint)

        return super().load_checkpoint(
            filename,
            map_location='cpu' if map_location == 'default' else map_location,
            callback=complete,
            **kwargs,
        )

    def resume(
        self, filename: str, *, callback: Callable | None = None, **kwargs: Any
    ) -> dict:
        """See mmengine.

        Raises:
            ValueError: if the file holds not enough to go on from it.
        """

        def check(checkpoint: dict) -> None:
            wanted = ['meta', 'optimizer']
            if hasattr(self, 'param_schedulers'):
                wanted.append('param_schedulers')
            missing = [x for x in wanted if x not in checkpoint]
            if missing:
                raise ValueError(
                    f'{filename} cannot be resumed: it holds no '
                    f'{", ".join(missing)}. Start from its weights: set '
                    'load_from, and leave --resume out'
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
        """Lets the first process write what all of them have."""
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
    """Returns the modules of the named classes, outer ones first.

    Args:
        model (nn.Module): a network.
        names (Sequence[str], optional): of classes; those of :data:`BLOCKS`
            by default, of which there may be none.

    Raises:
        ValueError: if there is no module of a class that is named.
    """
    found = {type(x).__name__ for x in model.modules()}
    for name in names or ():
        if name not in found:
            raise ValueError(
                f'FullyShardStrategy: blocks={list(names or ())}, but the '
                f'network has no {name!r}; it has {sorted(found)}'
            )
    wanted = BLOCKS if names is None else names
    return [x for x in model.modules() if type(x).__name__ in wanted]


def _reject_deepcopy(memo: dict) -> Any:
    raise ValueError(
        'FullyShardStrategy: a network in shards cannot be copied; train '
        'without EMAHook, or without the strategy'
    )


def _unshard_in_evaluation(
    model: Any, blocks: Sequence[Any], reshard_after_forward: bool
) -> None:
    """Makes ``model.eval()`` unshard all parameters.

    What is outside of blocks PyTorch keeps after each forward pass.
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
