"""Makes the OpenMMLab stack run on current PyTorch, in one place.

``import mmfaseg`` runs :func:`prepare_stack`: it checks what is installed,
makes ``mmcv.ops`` importable where mmcv comes without compiled operators, lets
the checkpoints of mmengine pass the safe loader of PyTorch, and no other, also
those that it downloads, after a look for what is made to do harm, teaches
mmengine to read ``.safetensors`` files, and offers mmdet what it takes from
``panopticapi``.

Nothing of the stack is imported above the functions: what is missing or too
old is to be named by the check, not by a failing import.
"""

from ..utils.panopticapi import offer_panopticapi
from ..utils.stack_info import stack_info
from .checkpoints import (
    allow_mmengine_checkpoints,
    load_with_care,
    read_safetensors_in_mmengine,
)
from .mmcv_operators import (
    check_compiled_mmcv_ops,
    import_mmcv_ops_uncompiled,
)
from .package_configs import register_package_configs


def prepare_stack() -> None:
    """Check the stack and make it usable; a second call changes nothing.

    Raises:
        ImportError: If a package is missing or not supported, or if the
            compiled operators of mmcv do not load with this PyTorch.
    """
    info = stack_info()
    if info.has_compiled_mmcv_ops:
        check_compiled_mmcv_ops(info)
    else:
        import_mmcv_ops_uncompiled(info)
    allow_mmengine_checkpoints()
    load_with_care()
    read_safetensors_in_mmengine()
    offer_panopticapi()
    register_package_configs()
