"""Atomic writing and validation of checkpoints."""

import os
from collections.abc import Sequence
from typing import Any

from mmengine.dist import is_main_process
from mmengine.hooks import CheckpointHook
from mmengine.runner import BaseLoop, Runner

from mmfaseg.checkpoints.compatibility import (
    check_any_fits,
    check_compatible,
    check_finite,
)
from mmfaseg.registry import HOOKS
from mmfaseg.utils.atomic_write import remove_partial_files
from mmfaseg.utils.unwrap_model import unwrap_model

from ..atomic_backend import ATOMIC


@HOOKS.register_module()
class SafeCheckpointHook(CheckpointHook):
    """mmengine's ``CheckpointHook`` with atomic writes.

    A checkpoint is written to a temporary file and then renamed; only then
    are older checkpoints removed, including the previous best one. If the
    process is killed or the disk is full, only the newest checkpoint is lost,
    but outdated files may remain. The arguments are those of mmengine's hook.
    With ``backend_args``, a remote ``out_dir``, or FlexibleRunner with another
    strategy than ``FullyShardStrategy``, files are written as in mmengine's
    hook.

    Checkpoints that are loaded for testing or resuming must contain all
    weights of the model, those of ``load_from`` at least one. All loaded
    weights must be finite.
    """

    backend_args: dict | None
    file_backend: Any
    _is_iter_counted = False
    _outdated: Sequence[tuple[str, int]] = ()

    def before_train(self, runner: Runner) -> None:
        """Selects the atomic backend for local files."""
        folder = str(self.out_dir or runner.work_dir)
        chosen = self.backend_args or self.file_client_args
        is_local = not chosen and '://' not in folder
        if is_local:
            self.backend_args = dict(backend=ATOMIC)
        super().before_train(runner)
        if is_local:
            self.file_backend.remove = self._mark_outdated
            if is_main_process():
                remove_partial_files(self.out_dir)

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Checks the weights before they are used.

        Raises:
            ValueError: if weights are missing or not finite, or have another
                shape.
        """
        state = checkpoint.get('state_dict', checkpoint)
        path = runner._load_from or f'the checkpoint in {runner.work_dir}'
        # without training, the loop is still a config
        is_training = isinstance(runner._train_loop, BaseLoop)
        is_tested = runner._load_from and not is_training
        if runner._resume or is_tested:
            check_compatible(
                state,
                unwrap_model(runner.model),
                path,
                with_auxiliary=runner._resume,
            )
        else:
            check_any_fits(state, unwrap_model(runner.model), path)
            check_finite(state, path)
        # EMAHook has swapped the two state dicts
        check_finite(checkpoint.get('ema_state_dict', {}), path)

    def after_val_epoch(self, runner: Runner, metrics: Any) -> None:
        """Saves the best checkpoint, then removes the previous one."""
        self._is_iter_counted = True
        super().after_val_epoch(runner, metrics)
        self._is_iter_counted = False
        self._remove_outdated()

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Corrects the iteration in checkpoints saved after validation.

        mmengine's FlexibleRunner adds one although the iteration is already
        counted, and would skip an iteration when resuming.
        """
        if self._is_iter_counted:
            done = dict(epoch=runner.epoch, iter=runner.iter)
            checkpoint['meta'].update(done)

    def _save_checkpoint(self, runner: Runner) -> None:
        super()._save_checkpoint(runner)
        self._remove_outdated()

    def _mark_outdated(self, path: str) -> None:
        self._outdated = [*self._outdated, (path, os.stat(path).st_ino)]

    def _remove_outdated(self) -> None:
        """Removes outdated files that have not been replaced since."""
        for path, inode in self._outdated:
            if os.path.isfile(path) and os.stat(path).st_ino == inode:
                os.remove(path)
        self._outdated = ()
