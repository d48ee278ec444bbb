"""Arguments, checks and log filters shared by the tools."""

import argparse
import logging
import os
import re
import sys
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mmengine.config import Config, DictAction
from mmengine.logging import MMLogger, print_log
from mmengine.registry import RUNNERS
from mmengine.runner import Runner

from . import config_names
from .config_conflicts import check_conflicts
from .config_files import read_config
from .cpu_processes import prepare_cpu_processes
from .diagnostics import Diagnostic, Diagnostics
from .stack_info import log_stack_info

# warnings of PyTorch, mmengine, mmseg and mmdet that users cannot act on
KNOWN_WARNINGS = (
    r'Failed to search registry with scope "\w+" in the "(function|strategy)"',
    r'``build_\w+`` would be deprecated soon',
    r'Default ``avg_non_ignore`` is False',
    r'For binary segmentation, we suggest',
    r'threshold is not defined for binary',
    r'The draw is False',
    r'The prefix is not set in metric class',
    r'The shape of value will convert from',
    r'"FileClient" will be deprecated in future',
    r'"HardDiskBackend" is the alias of',
    r'`torch\.cuda\.amp\.GradScaler',
    r'torch\.meshgrid: in an upcoming release',
    r'`isinstance\(treespec, LeafSpec\)` is deprecated',
)
# errors of the user, which the commands print without a traceback
USER_ERRORS = (OSError, ValueError, ImportError)
# the same for commands that run a network on images of the user
INFERENCE_ERRORS = (*USER_ERRORS, TypeError, RuntimeError)
FIGURE_FORMATS = ('.png', '.svg', '.pdf')
NO_CHECK = 'pass --no-check to run without this check'
# set by torchrun, Slurm and Open MPI
RANK_VARIABLES = ('RANK', 'SLURM_PROCID', 'OMPI_COMM_WORLD_RANK')


@contextmanager
def exit_on_user_errors(
    kinds: tuple[type[Exception], ...] = USER_ERRORS,
) -> Iterator[None]:
    """Exits with the message of an error of one of these kinds."""
    try:
        yield
    except kinds as error:
        sys.exit(f'error: {error}')


def hide_known_warnings() -> None:
    """Hides :data:`KNOWN_WARNINGS`, including those in mmengine's log.

    The tools call this function; ``import mmfaseg`` does not.
    """
    for message in KNOWN_WARNINGS:
        warnings.filterwarnings('ignore', message)
    # patches the class, as each runner has its own logger
    MMLogger.filter = _is_shown


def _is_shown(logger: logging.Logger, record: logging.LogRecord) -> bool:
    message = record.getMessage()
    return not any(re.match(x, message) for x in KNOWN_WARNINGS) and bool(
        logging.Logger.filter(logger, record)
    )


class _ConfigOptions(DictAction):
    """mmengine's ``DictAction`` with error messages of the parser."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Any,
        option_string: str | None = None,
    ) -> None:
        """Parses the settings."""
        for text in values:
            if '=' not in text:
                raise argparse.ArgumentError(
                    self,
                    f'{text!r} is not KEY=VALUE; give other arguments before '
                    'this option',
                )
        try:
            super().__call__(parser, namespace, values, option_string)
        except AssertionError as error:  # such as unbalanced brackets
            raise argparse.ArgumentError(self, str(error)) from error


def add_cfg_options(parser: argparse.ArgumentParser, example: str) -> None:
    """Adds ``--cfg-options`` to a parser, with an example in the help."""
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=_ConfigOptions,
        default={},
        metavar='KEY=VALUE',
        help='override settings of the config, for example '
        f'{example} or key="[(a,b),(c,d)]" (without spaces)',
    )


def positive_int(text: str) -> int:
    """Returns a number of at least 1; a type for arguments of a parser."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f'{text!r} is not an integer >= 1')
    return int(text)


def figure_path(text: str) -> Path:
    """Returns the path of a figure; a type for arguments of a parser."""
    path = Path(text)
    if path.suffix.lower() not in FIGURE_FORMATS:
        raise argparse.ArgumentTypeError(
            f'{path} must end in one of {", ".join(FIGURE_FORMATS)}'
        )
    return path


def add_run_arguments(parser: argparse.ArgumentParser, example: str) -> None:
    """Adds the common arguments of training and testing to a parser."""
    parser.add_argument(
        '--work-dir',
        help='directory for logs and results (default: work_dir of the '
        'config, or work_dirs/CONFIG_NAME)',
    )
    parser.add_argument(
        '--no-check',
        action='store_true',
        help='skip the config check and, before training, the data check',
    )
    parser.add_argument(
        '--amp',
        nargs='?',
        const='fp16',
        choices=['fp16', 'bf16'],
        help='use mixed precision: float16 (default), with loss scaling in '
        'training, or bfloat16',
    )
    add_cfg_options(parser, example)
    parser.add_argument(
        '--launcher',
        choices=['none', 'pytorch', 'slurm', 'mpi'],
        default='none',
        help='job launcher of a distributed run (default: none)',
    )
    # The spelling depends on the version of torch.distributed.launch.
    parser.add_argument(
        '--local-rank',
        '--local_rank',
        type=int,
        default=0,
        help='set by the launcher (default: 0)',
    )


def load_config(path: str | Path, options: Mapping[str, Any]) -> Config:
    """Returns a config with ``--cfg-options`` applied.

    Exits with an error message if :func:`read_config` raises one.
    """
    with exit_on_user_errors():
        return read_config(path, options)


def load_run_config(args: argparse.Namespace) -> Config:
    """Returns the config with the arguments of :func:`add_run_arguments`.

    Sets ``LOCAL_RANK`` unless the launcher has set it.
    """
    os.environ.setdefault('LOCAL_RANK', str(args.local_rank))
    cfg = load_config(args.config, args.cfg_options)
    cfg.launcher = args.launcher
    if args.work_dir is not None:
        cfg.work_dir = args.work_dir
    elif cfg.get('work_dir') is None:
        cfg.work_dir = str(Path('work_dirs') / Path(cfg.filename).stem)
    return cfg


def check_names(cfg: Config) -> None:
    """Exits with an error message for unknown names or conflicts."""
    diagnostics = Diagnostics()
    config_names.check_names(cfg, diagnostics)
    check_conflicts(cfg, diagnostics)
    _exit_on_errors(diagnostics.list(), NO_CHECK)


def check_data(cfg: Config) -> None:
    """Exits with an error message if the data do not match the config.

    Checks in the main process the settings and a few images of segmentors,
    and the class names of detectors.
    """
    from mmfaseg.data_check import (
        NUM_QUICK_IMAGES,
        check_categories,
        check_dataset,
    )

    ranks = [os.environ[x] for x in RANK_VARIABLES if x in os.environ]
    if (ranks or ['0'])[0] != '0':
        return
    remedy = NO_CHECK
    try:
        if 'decode_head' in cfg.model:
            report = check_dataset(cfg, ('train', 'val'), NUM_QUICK_IMAGES)
            found = report.diagnostics
            remedy = (
                f'run `mmfaseg check-data` to check every image, or {remedy}'
            )
        else:
            diagnostics = Diagnostics()
            check_categories(cfg, diagnostics)
            found = diagnostics.list()
    except Exception as error:
        # an unusual dataset may still be valid for training
        _warn(f'the data check failed: {error!r}')
        return
    _exit_on_errors(found, remedy)


def _exit_on_errors(found: Sequence[Diagnostic], remedy: str) -> None:
    """Logs the warnings; exits with the errors and the remedy, if any."""
    for diagnostic in found:
        if not diagnostic.is_error:
            _warn(str(diagnostic))
    if errors := [str(x) for x in found if x.is_error]:
        sys.exit('\n'.join([*errors, remedy]))


def make_folder(path: str, kind: str) -> None:
    """Creates a folder, or exits with an error message that names its kind.

    Remote folders are left to their backends.
    """
    if '://' in path:
        return
    try:
        Path(path).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        sys.exit(f'error: the {kind} cannot be created: {error}')


def build_runner(cfg: Config) -> Any:
    """Builds the runner of a config and logs the installed packages.

    Exits with an error message if the work directory cannot be created.
    """
    prepare_cpu_processes(cfg)
    make_folder(cfg.work_dir, 'work directory')
    build = RUNNERS.build if 'runner_type' in cfg else Runner.from_cfg
    runner = build(cfg)
    log_stack_info()
    return runner


def _warn(text: str) -> None:
    print_log(text, logger='current', level=logging.WARNING)
