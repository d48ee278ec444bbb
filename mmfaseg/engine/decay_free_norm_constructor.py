"""Optimizer constructor without weight decay for norms and embeddings."""

from mmengine.optim import DefaultOptimWrapperConstructor, OptimWrapper
from torch import nn
from torch.nn.modules.batchnorm import _NormBase

from mmfaseg.registry import OPTIM_WRAPPER_CONSTRUCTORS

NORMS = (_NormBase, nn.GroupNorm, nn.LayerNorm)
# positional embeddings that are plain parameters
TABLES = (
    'absolute_pos_embed',
    'learned_pos_embed',
    'relative_position_bias_table',
)


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class DecayFreeNormConstructor(DefaultOptimWrapperConstructor):
    """Disables weight decay for all norms and embeddings.

    In mmengine's constructor, a custom key such as ``backbone`` takes
    precedence over ``norm_decay_mult``: a learning rate multiplier for the
    backbone also enables weight decay for its norms.
    """

    paramwise_cfg: dict

    def __call__(self, model: nn.Module) -> OptimWrapper:
        """Returns the optimizer wrapper with one group per parameter."""
        # with an empty config, mmengine puts all parameters into one group
        if not self.paramwise_cfg:
            self.paramwise_cfg = dict(norm_decay_mult=0.0)
        optim_wrapper = super().__call__(model)
        free = set()
        for module in model.modules():
            is_free = isinstance(module, (*NORMS, nn.Embedding))
            for name, parameter in module.named_parameters(recurse=False):
                if is_free or name in TABLES:
                    free.add(id(parameter))
        for group in optim_wrapper.optimizer.param_groups:
            if all(id(parameter) in free for parameter in group['params']):
                group['weight_decay'] = 0.0
        return optim_wrapper
