"""Checkpoints that survive whatever happens while they are written."""

import os
from typing import Any

from mmengine.dist import is_main_process
from mmengine.hooks import CheckpointHook
from mmengine.runner import Runner

from mmfaseg.registry import HOOKS

from ..atomic_backend import ATOMIC, remove_parts


@HOOKS.register_module()
class SafeCheckpointHook(CheckpointHook):
    """mmengine's ``CheckpointHook`` that never has less than it had.

    A checkpoint is written beside its place and then moved there, and older
    ones, also the best one so far, are removed after that, not before: a
    process that is killed, or a disk that is full, costs the newest
    checkpoint at most. The arguments are those of mmengine's hook; with
    ``backend_args`` for files elsewhere it is mmengine's hook.
    """

    backend_args: dict | None
    file_backend: Any

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if self.backend_args is None and self.file_client_args is None:
            self.backend_args = dict(backend=ATOMIC)

    def before_train(self, runner: Runner) -> None:
        """See mmengine."""
        super().before_train(runner)
        self.file_backend = _LateRemoval(self.file_backend)
        if is_main_process():
            remove_parts(self.out_dir)

    def after_train_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: Any = None,
        outputs: Any = None,
    ) -> None:
        """See mmengine."""
        super().after_train_iter(runner, batch_idx, data_batch, outputs)
        self.file_backend.remove_now()

    def after_train_epoch(self, runner: Runner) -> None:
        """See mmengine."""
        super().after_train_epoch(runner)
        self.file_backend.remove_now()

    def after_val_epoch(self, runner: Runner, metrics: Any) -> None:
        """See mmengine."""
        super().after_val_epoch(runner, metrics)
        self.file_backend.remove_now()


class _LateRemoval:
    """A file backend that removes local files when it is told to."""

    def __init__(self, backend: Any) -> None:
        self.backend = backend
        self.outdated: list[tuple[str, int]] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self.backend, name)

    def remove(self, path: str) -> None:
        """Removes a file, later if it is a local one."""
        if os.path.isfile(path):
            self.outdated.append((path, os.stat(path).st_ino))
        else:
            self.backend.remove(path)

    def remove_now(self) -> None:
        """Removes the files that nothing has replaced since."""
        for path, number in self.outdated:
            if os.path.isfile(path) and os.stat(path).st_ino == number:
                self.backend.remove(path)
        self.outdated.clear()
