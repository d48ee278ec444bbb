import runpy
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from mmengine.registry import DefaultScope

import mmfaseg  # noqa: F401


@pytest.fixture(autouse=True)
def mmseg_scope() -> Iterator[None]:
    with DefaultScope.overwrite_default_scope('mmseg'):
        yield


@pytest.fixture
def run_tool(
    root: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> Callable[..., tuple[object, str]]:
    """Run a tool in this process; return its exit status and output."""

    def run(tool: str, *arguments: object) -> tuple[object, str]:
        path = str(root / 'tools' / tool)
        monkeypatch.setattr(sys, 'argv', [path, *map(str, arguments)])
        with pytest.raises(SystemExit) as raised:
            runpy.run_path(path, run_name='__main__')
        return raised.value.code, ''.join(capsys.readouterr())

    return run
