"""Prints the installed packages and the operator backends."""

import sys

from mmengine.utils.dl_utils import collect_env as collect_base_env

from mmfaseg.ops import describe_backend
from mmfaseg.utils.command_line import hide_known_warnings
from mmfaseg.utils.stack_info import stack_info
from mmfaseg.version import __version__


def collect_env() -> dict[str, str]:
    """Returns the installed versions and the backends in use."""
    info = stack_info()
    environment = {
        name: str(value) for name, value in collect_base_env().items()
    }
    environment['mmfaseg'] = __version__
    environment['stack family'] = info.family
    for module, (name, version) in info.packages.items():
        environment[module] = f'{version} ({name})'
    environment['compiled mmcv operators'] = (
        'yes' if info.has_compiled_mmcv_ops else 'no'
    )
    environment['deformable attention'] = info.deformable_attention
    environment['mmfaseg operators'] = describe_backend()
    return environment


def main() -> None:
    """Prints the environment, one entry per line."""
    hide_known_warnings()
    for name, value in collect_env().items():
        sys.stdout.write(f'{name}: {value}\n')


if __name__ == '__main__':
    main()
