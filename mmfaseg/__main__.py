"""Command line of the package: ``mmfaseg COMMAND`` or ``python -m mmfaseg``.

Each command runs a script of ``tools/`` or a module with a command line of
its own, so that the tools work from any folder after ``pip install``.
"""

import ast
import importlib.util
import os
import sys
from pathlib import Path

from .utils.package_folder import PACKAGE, find_package_folder
from .version import __version__

# Python files of the tools and of the package
COMMANDS = {
    'train': 'tools/train.py',
    'test': 'tools/test.py',
    'infer': 'mmfaseg/infer.py',
    'explore': 'mmfaseg/explore.py',
    'export': 'tools/deployment/export.py',
    'run-onnx': 'tools/deployment/run_onnx.py',
    'new-dataset': 'tools/new_dataset.py',
    'check-data': 'tools/analysis_tools/check_dataset.py',
    'convert': 'tools/model_converters/faseg2mmfaseg.py',
    'publish': 'tools/model_converters/publish_model.py',
    'flops': 'tools/analysis_tools/get_flops.py',
    'confusion-matrix': 'tools/analysis_tools/confusion_matrix.py',
    'study': 'tools/analysis_tools/study.py',
    'robustness': 'tools/analysis_tools/robustness.py',
    'focus-statistics': 'tools/analysis_tools/focus_statistics.py',
    'env': 'mmfaseg/utils/collect_env.py',
}


def find_source(command: str) -> Path:
    """Returns the Python file of a command in :data:`COMMANDS`."""
    folder, _, path = COMMANDS[command].partition('/')
    if folder == 'tools':
        return find_package_folder(folder) / path
    return PACKAGE / path


def usage() -> str:
    """Returns the list of commands with their descriptions."""
    lines = ['usage: mmfaseg COMMAND [arguments]', '']
    for command in COMMANDS:
        text = find_source(command).read_text(encoding='utf-8')
        description = ast.get_docstring(ast.parse(text)) or ''
        summary = description.partition('\n')[0].partition(', ``')[0]
        lines.append(f'  {command:<18}{summary.rstrip(".")}')
    lines += [
        '',
        '"mmfaseg COMMAND --help" describes the arguments; configs are given '
        'by path or name.',
        '',
    ]
    return '\n'.join(lines)


def main() -> None:
    """Runs the command named by the first argument."""
    command = sys.argv[1] if len(sys.argv) > 1 else ''
    if command in ('', '-h', '--help', 'help'):
        sys.stdout.write(usage())
    elif command in ('-V', '--version'):
        sys.stdout.write(f'mmfaseg {__version__}\n')
    elif command not in COMMANDS:
        sys.exit(
            f'error: there is no command {command!r}; choose from '
            f'{", ".join(COMMANDS)}'
        )
    else:
        sys.argv = [f'mmfaseg {command}', *sys.argv[2:]]
        source = find_source(command)
        # for custom_imports, as with python -m
        sys.path.insert(0, os.getcwd())
        if COMMANDS[command].startswith('tools'):
            # tools import their neighbors
            sys.path.insert(0, str(source.parent))
        run_as_main(source)


def run_as_main(source: Path) -> None:
    """Runs a Python file as ``__main__``, with ``sys.argv`` as it is.

    ``runpy`` would replace the program name in messages by that of the file.
    """
    spec = importlib.util.spec_from_file_location('__main__', source)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules['__main__'] = module
    spec.loader.exec_module(module)


if __name__ == '__main__':
    main()
