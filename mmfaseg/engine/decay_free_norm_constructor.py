"""Which parameters are not decayed."""

from mmengine.optim import DefaultOptimWrapperConstructor, OptimWrapper
from torch import nn
from torch.nn.modules.batchnorm import _NormBase

from mmfaseg.registry import OPTIM_WRAPPER_CONSTRUCTORS

NORMS = (_NormBase, nn.GroupNorm, nn.LayerNorm)
# positional tables that are kept as bare parameters
TABLES = (
    'absolute_pos_embed',
    'learned_pos_embed',
    'relative_position_bias_table',
)


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class DecayFreeNormConstructor(DefaultOptimWrapperConstructor):
    """Takes norms and embeddings out of weight decay, wherever they are.

    With mmengine's constructor a custom key such as ``backbone`` wins over
    ``norm_decay_mult``: lowering the learning rate of the backbone decays its
    norms again. FASeg's recipe decays none of them.
    """

    paramwise_cfg: dict

    def __call__(self, model: nn.Module) -> OptimWrapper:
        """Returns the optimizer wrapper, one group per parameter."""
        # without any option mmengine would make one group of everything
        if not self.paramwise_cfg:
            self.paramwise_cfg = dict(norm_decay_mult=0.0)
        optim_wrapper = super().__call__(model)
        free = set()
        for module in model.modules():
            whole = isinstance(module, (*NORMS, nn.Embedding))
            for name, parameter in module.named_parameters(recurse=False):
                if whole or name in TABLES:
                    free.add(id(parameter))
        for group in optim_wrapper.optimizer.param_groups:
            if all(id(parameter) in free for parameter in group['params']):
                group['weight_decay'] = 0.0
        return optim_wrapper
