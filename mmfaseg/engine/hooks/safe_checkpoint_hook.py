"""Checkpoints that survive whatever happens while they are written."""

import os
from typing import Any

from mmengine.dist import is_main_process
from mmengine.hooks import CheckpointHook
from mmengine.runner import BaseLoop, Runner

from mmfaseg.checkpoints.compatibility import check_compatible, check_finite
from mmfaseg.registry import HOOKS
from mmfaseg.utils.atomic_write import remove_partial_files
from mmfaseg.utils.unwrap_model import unwrap_model

from ..atomic_backend import ATOMIC


@HOOKS.register_module()
class SafeCheckpointHook(CheckpointHook):
    """mmengine's ``CheckpointHook`` that never has less than it had.

    A checkpoint is written beside its place and then moved there, and older
    ones, also the best one so far, are removed after that, not before: a
    process that is killed, or a disk that is full, costs the newest
    checkpoint at most. One that is killed before it could remove what is
    outdated leaves that for good. The arguments are those of mmengine's hook;
    for files elsewhere (``out_dir='s3://...'`` or ``backend_args``) they are
    written as by mmengine's hook.

    What is loaded to be tested or resumed has to be all weights of the
    network, and finite; what is loaded to start from (``load_from``), or by a
    call of ``runner.load_checkpoint``, has to be finite.
    """

    backend_args: dict | None
    file_backend: Any
    _is_iter_counted = False

    def before_train(self, runner: Runner) -> None:
        """See mmengine."""
        folder = str(self.out_dir or runner.work_dir)
        chosen = self.backend_args or self.file_client_args
        is_local = not chosen and '://' not in folder
        if is_local:
            self.backend_args = dict(backend=ATOMIC)
        super().before_train(runner)
        if is_local:
            self.file_backend = _DeferredRemoval(self.file_backend)
            if is_main_process():
                remove_partial_files(self.out_dir)

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Refuses weights that cannot be meant, before they are used.

        Raises:
            ValueError: see :func:`mmfaseg.checkpoints.compatibility.
            check_compatible`.
        """
        state = checkpoint.get('state_dict', checkpoint)
        path = runner._load_from or f'the checkpoint in {runner.work_dir}'
        by_config = runner._resume or runner._load_from
        if runner._resume or (by_config and not is_training(runner)):
            network = unwrap_model(runner.model)
            check_compatible(
                state, network, path, with_auxiliary=runner._resume
            )
        else:
            check_finite(state, path)
        # EMAHook has swapped the two
        check_finite(checkpoint.get('ema_state_dict', {}), path)

    def after_train_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: Any = None,
        outputs: Any = None,
    ) -> None:
        """See mmengine."""
        super().after_train_iter(runner, batch_idx, data_batch, outputs)
        self._remove_outdated()

    def after_train_epoch(self, runner: Runner) -> None:
        """See mmengine."""
        super().after_train_epoch(runner)
        self._remove_outdated()

    def after_val_epoch(self, runner: Runner, metrics: Any) -> None:
        """See mmengine."""
        self._is_iter_counted = True
        super().after_val_epoch(runner, metrics)
        self._is_iter_counted = False
        self._remove_outdated()

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Counts an iteration once.

        mmengine's FlexibleRunner takes it for one that is not yet counted,
        also after the validation, and would leave one out on resuming.
        """
        if self._is_iter_counted:
            done = dict(epoch=runner.epoch, iter=runner.iter)
            checkpoint['meta'].update(done)

    def _remove_outdated(self) -> None:
        backend = getattr(self, 'file_backend', None)
        if isinstance(
            backend, _DeferredRemoval
        ):  # not where nothing is trained
            backend.remove_outdated()


def is_training(runner: Runner) -> bool:
    """Returns whether the runner was asked to train, not only to test."""
    # a config of the loop until the runner is asked
    return isinstance(runner._train_loop, BaseLoop)


class _DeferredRemoval:
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

    def remove_outdated(self) -> None:
        """Removes the files that nothing has replaced since."""
        for path, number in self.outdated:
            if os.path.isfile(path) and os.stat(path).st_ino == number:
                self.backend.remove(path)
        self.outdated.clear()
