"""Fixtures shared by several test files."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
NOT_SOURCE = shutil.ignore_patterns(
    *('.[!.]*', '__pycache__', '*.egg-info', '*.so', 'build', 'dist'),
    *('data', 'demo_out', 'work_dirs'),
)


@pytest.fixture(scope='session')
def root() -> Path:
    """The root of the repository."""
    return ROOT


@pytest.fixture(scope='session')
def run_python() -> Callable[..., subprocess.CompletedProcess]:
    """Runs Python in a new process in which mmfaseg can be imported.

    Standard error is part of the output, so that a failed ``check`` shows
    both.
    """

    def run(
        *arguments: object, check: bool = True, cwd: Path | None = None
    ) -> subprocess.CompletedProcess:
        done = subprocess.run(
            [sys.executable, *map(str, arguments)],
            env={**os.environ, 'PYTHONPATH': str(ROOT)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            cwd=cwd,
        )
        if check:
            assert done.returncode == 0, done.stdout
        return done

    return run


@pytest.fixture(scope='session')
def build() -> Callable[[str, Path, Path], Path]:
    """Builds a 'wheel', 'sdist' or 'editable' into an empty folder.

    Uses the setuptools of this environment, as pip does.
    """

    def build(kind: str, source: Path, target: Path) -> Path:
        target.mkdir(exist_ok=True)
        command = (
            'from setuptools import build_meta; '
            f'build_meta.build_{kind}({str(target)!r})'
        )
        done = subprocess.run(
            [sys.executable, '-c', command],
            cwd=source,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        (built,) = target.iterdir()
        return built

    return build


@pytest.fixture(scope='session')
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the repository, because builds write into their source."""
    copy = tmp_path_factory.mktemp('source') / 'mmfaseg'
    shutil.copytree(ROOT, copy, ignore=NOT_SOURCE)
    return copy


@pytest.fixture(scope='session')
def wheel(build, source, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of this repository."""
    return build('wheel', source, tmp_path_factory.mktemp('wheel'))
