from collections.abc import Iterator

import pytest
from mmengine.registry import DefaultScope

import mmfaseg  # noqa: F401


@pytest.fixture(autouse=True)
def mmseg_scope() -> Iterator[None]:
    with DefaultScope.overwrite_default_scope('mmseg'):
        yield
