"""Patches that make OpenMMLab packages run on current PyTorch.

``import mmfaseg`` calls :func:`apply_patches`, which

- checks the installed packages;
- makes ``mmcv.ops`` importable without compiled operators;
- makes mmengine load checkpoints, including ``.safetensors`` files, from files
  and URLs without executing code from them, and ``torchvision://`` weights
  without torchvision;
- provides the part of ``panopticapi`` that mmdet needs;
- resolves ``mmfaseg::`` in ``_base_`` and in ``mmengine.hub``.

OpenMMLab packages are imported inside the functions, so that a missing or
unsupported package is reported by the check.
"""

from ..utils.stack_info import stack_info
from .checkpoints import patch_checkpoint_loaders, register_safe_globals
from .mmcv_operators import (
    check_compiled_mmcv_ops,
    import_mmcv_ops_uncompiled,
)
from .package_configs import register_package_configs
from .panopticapi import register_panopticapi


def apply_patches() -> None:
    """Checks the packages and applies all patches.

    Repeated calls have no effect.

    Raises:
        ImportError: if a package is missing or unsupported, or the compiled
            operators of mmcv do not load with this PyTorch.
    """
    info = stack_info()
    if info.has_compiled_mmcv_ops:
        check_compiled_mmcv_ops(info)
    else:
        import_mmcv_ops_uncompiled(info)
    register_safe_globals()
    patch_checkpoint_loaders()
    register_panopticapi()
    register_package_configs()
