"""Progress bar for training."""

import logging
import sys
import time
import weakref
from collections import deque
from contextlib import ExitStack
from datetime import timedelta
from typing import Any

from mmengine.dist import is_main_process
from mmengine.hooks import Hook
from mmengine.runner import Runner
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
)

from mmfaseg.registry import HOOKS

REDRAW_SECONDS = 0.1


@HOOKS.register_module()
class ProgressBarHook(Hook):
    """Shows progress, speed, loss, learning rate and mIoU during training.

    On a terminal, the main process shows a bar below the log. Otherwise, it
    prints a line every few seconds. The bar does not use a thread, so that
    tracebacks are printed intact, and is closed when the hook is deleted.

    Args:
        interval (float): seconds between two lines if there is no terminal.
        window_size (int): number of iterations over which the loss is
            averaged.

    Raises:
        ValueError: if ``interval`` is negative or ``window_size`` is not
            positive.
    """

    priority = 'VERY_LOW'

    def __init__(self, interval: float = 10, window_size: int = 20) -> None:
        if interval < 0:
            raise ValueError(f'interval must not be negative, got {interval}')
        if window_size < 1:
            raise ValueError(
                f'window_size must be positive, got {window_size}'
            )
        self.interval = interval
        self._losses: deque[float] = deque(maxlen=window_size)
        self._score = ''
        self._shown_iter, self._shown_time = -1, 0.0
        self._progress: Progress | None = None
        self._cleanup = ExitStack()
        weakref.finalize(self, self._cleanup.close)

    def before_train(self, runner: Runner) -> None:
        """Starts the bar at the current iteration of the runner."""
        self.close()
        self._losses.clear()
        self._score = ''
        if not is_main_process():
            return
        columns = (
            BarColumn(bar_width=None),
            MofNCompleteColumn(),
            TextColumn('{task.description}'),
        )
        console = Console()
        self._progress = Progress(
            *columns, console=console, auto_refresh=False, expand=True
        )
        self._progress.add_task(
            '', total=runner.max_iters, completed=runner.iter
        )
        if console.is_terminal and not console.is_dumb_terminal:
            self._start_bar(self._progress, runner.logger)
        self._show(runner)

    def after_train_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: Any = None,
        outputs: dict | None = None,
    ) -> None:
        """Updates the bar."""
        if outputs is not None and 'loss' in outputs:
            self._losses.append(outputs['loss'].item())
        if self._progress is None:
            return
        task = self._progress.tasks[0]
        self._progress.update(task.id, completed=runner.iter + 1)
        has_bar = self._progress.live.is_started
        pause = REDRAW_SECONDS if has_bar else self.interval
        if time.perf_counter() - self._shown_time >= pause:
            self._show(runner)

    def after_val_epoch(
        self, runner: Runner, metrics: dict[str, float] | None = None
    ) -> None:
        """Updates the displayed mIoU."""
        if metrics is not None and 'mIoU' in metrics:
            self._score = f'mIoU {metrics["mIoU"]:.1f}'
            self._shown_iter = -1

    def after_train(self, runner: Runner) -> None:
        """Shows the final state and closes the bar."""
        if self._shown_iter != runner.iter:
            self._show(runner)
        self.close()

    def close(self) -> None:
        """Closes the bar if it is open."""
        self._cleanup.close()
        self._progress = None

    def _start_bar(self, progress: Progress, logger: logging.Logger) -> None:
        terminal = (sys.stdout, sys.stderr)
        self._cleanup.callback(progress.stop)
        progress.start()
        for handler in logger.handlers:
            if type(handler) is logging.StreamHandler and (
                handler.stream in terminal
            ):
                self._cleanup.callback(handler.setStream, handler.stream)
                # rich replaces sys.stdout with a stream that prints above bars
                handler.setStream(sys.stdout)

    def _show(self, runner: Runner) -> None:
        if self._progress is None:
            return
        task = self._progress.tasks[0]
        done = int(task.completed)
        self._shown_iter, self._shown_time = done, time.perf_counter()
        text = self._describe(runner)
        self._progress.update(task.id, description=text)
        if self._progress.live.is_started:
            self._progress.refresh()
        else:
            line = f'iter {done}/{runner.max_iters}  {text}'
            self._progress.console.print(
                line, markup=False, highlight=False, soft_wrap=True
            )

    def _describe(self, runner: Runner) -> str:
        assert self._progress is not None
        task = self._progress.tasks[0]
        parts = []
        if task.time_remaining is not None:
            parts.append(f'eta {timedelta(seconds=task.time_remaining)}')
        if speed := task.finished_speed or task.speed:
            parts.append(f'{speed:.2f} it/s')
        if self._losses:
            parts.append(f'loss {sum(self._losses) / len(self._losses):.3g}')
        rates = [
            rate
            for name, group in runner.optim_wrapper.get_lr().items()
            if name.split('.')[-1] == 'lr'  # prefixed with several optimizers
            for rate in group
        ]
        if rates:
            parts.append(f'lr {max(rates):.1e}')
        return '  '.join([*parts, self._score]).rstrip()
