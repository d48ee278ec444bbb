"""Optimizer constructor without weight decay for norms and embeddings."""

import re
from collections.abc import Iterable
from math import inf

from mmengine.optim import DefaultOptimWrapperConstructor, OptimWrapper
from torch import nn
from torch.nn.modules.batchnorm import _NormBase

from mmfaseg.registry import OPTIM_WRAPPER_CONSTRUCTORS

NORMS = (_NormBase, nn.GroupNorm, nn.LayerNorm)
# embeddings that are plain parameters
TABLES = (
    'absolute_pos_embed',
    'cls_token',
    'learned_pos_embed',
    'pos_embed',
    'relative_position_bias_table',
)


# stage or block, then block or part of a stage, in the backbones of mmseg and
# mmpretrain: layers.3 (ViT, BEiT), stages.1.blocks.0 (Swin), layer1.0 (ResNet)
BLOCK = re.compile(
    r'(?:^|\.)backbone\.'
    r'(layer|layers\.|blocks\.|stages\.|downsample_layers\.)(\d+)\.'
    r'(?:blocks\.)?(\d+|downsample)?'
)
FINAL_NORM = re.compile(r'(?:^|\.)backbone\.(norm|ln)')


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class DecayFreeNormConstructor(DefaultOptimWrapperConstructor):
    """Disables weight decay for all norms and embeddings.

    In mmengine's constructor, a custom key such as ``backbone`` takes
    precedence over ``norm_decay_mult``: a learning rate multiplier for the
    backbone also enables weight decay for its norms.

    ``decay_rate`` in ``paramwise_cfg``, between 0 and 1, also multiplies the
    learning rates of the backbone: by ``decay_rate`` for its last block, by
    its square for the block before, and so on (layer-wise decay, as for ViT
    and BEiT; https://arxiv.org/abs/2106.08254). It supports ViT, BEiT, Swin,
    ConvNeXt and ResNet.
    """

    paramwise_cfg: dict

    def __call__(self, model: nn.Module) -> OptimWrapper:
        """Returns the optimizer wrapper with one group per parameter."""
        # with an empty config, mmengine puts all parameters into one group
        if not self.paramwise_cfg:
            self.paramwise_cfg = dict(norm_decay_mult=0.0)
        rate = self.paramwise_cfg.get('decay_rate', 1.0)
        if not 0 < rate <= 1:
            raise ValueError(
                f'paramwise_cfg.decay_rate must be in (0, 1], got {rate}'
            )
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
        if rate < 1:
            names = {id(x): name for name, x in model.named_parameters()}
            depths = backbone_depths(names.values())
            if len(set(depths.values())) < 2:
                raise ValueError(
                    'paramwise_cfg.decay_rate does not support this backbone, '
                    'as its blocks have other names than those of ViT, BEiT, '
                    'Swin, ConvNeXt and ResNet; remove decay_rate'
                )
            for group in optim_wrapper.optimizer.param_groups:
                (parameter,) = group['params']
                group['lr'] *= rate ** depths.get(names[id(parameter)], 0)
        return optim_wrapper


def backbone_depths(names: Iterable[str]) -> dict[str, int]:
    """Returns the distance of each backbone parameter from the head.

    Args:
        names (Iterable[str]): parameters of a segmentor or detector.

    Returns:
        dict[str, int]: 1 for the last block, and so on; the stem comes last.
        Normalizations after the blocks and other modules are left out.
    """
    blocks = {}
    stem = []
    for name in names:
        found = BLOCK.search(name)
        if found is not None:
            kind, stage, part = found.groups()
            order = dict(downsample=inf).get(part, part or 0)
            if kind == 'downsample_layers.':  # ConvNeXt: before the stage
                order = -1
            blocks[name] = (int(stage), float(order))
        elif 'backbone.' in name and not FINAL_NORM.search(name):
            stem.append(name)
    ordered = sorted(set(blocks.values()), reverse=True)
    depths = {name: 1 + ordered.index(x) for name, x in blocks.items()}
    return depths | dict.fromkeys(stem, len(ordered) + 1)
