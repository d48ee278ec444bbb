"""A progress bar for training."""

import logging
import math
import sys
import time
import weakref
from collections import deque
from datetime import timedelta
from typing import Any, TextIO

from mmengine.dist import is_main_process
from mmengine.hooks import Hook
from mmengine.runner import Runner
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

from mmfaseg.registry import HOOKS

REDRAW_SECONDS = 0.1


@HOOKS.register_module()
class ProgressBarHook(Hook):
    """Shows how far training is, how fast it goes and how the loss falls.

    On a terminal it is one bar that stays below everything that is logged;
    elsewhere a plain line is printed every few seconds. Only the main process
    shows it. Nothing is drawn from another thread, so that an exception
    leaves the screen in order; the bar is closed at the latest when the hook
    is deleted or the interpreter ends.

    Args:
        interval (float): Seconds between two plain lines.
        window_size (int): Iterations over which loss and speed are averaged.

    Raises:
        ValueError: If ``interval`` is negative or ``window_size`` is not
            positive.
    """

    priority = 'VERY_LOW'

    def __init__(self, interval: float = 10, window_size: int = 20) -> None:
        if interval < 0:
            raise ValueError(
                f'interval is {interval}; give the seconds between two lines'
            )
        if window_size < 1:
            raise ValueError(
                f'window_size is {window_size}; average over 1 or more '
                'iterations'
            )
        self.interval = interval
        self._losses: deque[float] = deque(maxlen=window_size)
        self._seconds: deque[float] = deque(maxlen=window_size)
        self._score = ''
        self._last_iter: float | None = None
        self._last_shown = 0.0
        self._shown_iter = -1
        self._bar: _Bar | None = None
        self._console: Console | None = None

    def before_train(self, runner: Runner) -> None:
        """Opens the bar where the run stands: a resumed one not at zero."""
        self.close()
        self._losses.clear()
        self._seconds.clear()
        self._score = ''
        self._last_iter = None
        if not is_main_process():
            return
        self._console = Console()
        if self._console.is_terminal and not self._console.is_dumb_terminal:
            self._bar = _Bar(self._console, runner)
            weakref.finalize(self, self._bar.close)
        self._show(runner, runner.iter)

    def after_train_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: Any = None,
        outputs: dict | None = None,
    ) -> None:
        """Takes note of one iteration and shows it when it is time to."""
        now = time.perf_counter()
        if self._last_iter is not None:
            self._seconds.append(now - self._last_iter)
        self._last_iter = now
        if outputs is not None and 'loss' in outputs:
            self._losses.append(outputs['loss'].item())
        done = runner.iter + 1
        pause = self.interval if self._bar is None else REDRAW_SECONDS
        if now - self._last_shown >= pause:
            self._show(runner, done)

    def after_val_epoch(
        self, runner: Runner, metrics: dict[str, float] | None = None
    ) -> None:
        """Remembers the mIoU; validation does not count as training time."""
        if metrics is not None and 'mIoU' in metrics:
            self._score = f'mIoU {metrics["mIoU"]:.1f}'
            self._shown_iter = -1  # to be shown even if training ends here
        self._last_iter = None

    def after_train(self, runner: Runner) -> None:
        """Shows the last state, then closes the bar."""
        if self._shown_iter != runner.iter:
            self._show(runner, runner.iter)
        self.close()

    def close(self) -> None:
        """Closes the bar; does nothing when there is none."""
        if self._bar is not None:
            self._bar.close()
        self._bar = None
        self._console = None

    def _show(self, runner: Runner, done: int) -> None:
        if self._console is None:
            return
        self._last_shown = time.perf_counter()
        self._shown_iter = done
        parts = self._describe(runner, done)
        if self._bar is not None:
            self._bar.draw(done, '  '.join(parts))
        else:
            line = f'iter {done}/{runner.max_iters}  ' + '  '.join(parts)
            self._console.print(
                line, markup=False, highlight=False, soft_wrap=True
            )

    def _describe(self, runner: Runner, done: int) -> list[str]:
        parts = []
        if self._seconds:
            per_iter = sum(self._seconds) / len(self._seconds)
            left = math.ceil(per_iter * (runner.max_iters - done))
            parts.append(f'eta {timedelta(seconds=left)}')
            parts.append(f'{1 / max(per_iter, 1e-9):.2f} it/s')
        if self._losses:
            parts.append(f'loss {sum(self._losses) / len(self._losses):.3g}')
        rates = [
            rate
            for name, group in runner.optim_wrapper.get_lr().items()
            if name.split('.')[-1] == 'lr'
            for rate in group
        ]
        if rates:
            parts.append(f'lr {max(rates):.1e}')
        if self._score:
            parts.append(self._score)
        return parts


class _Bar:
    """The drawn bar and the log handlers that write above it."""

    def __init__(self, console: Console, runner: Runner) -> None:
        self.progress = Progress(
            BarColumn(bar_width=None),
            TextColumn('{task.completed:.0f}/{task.total:.0f}'),
            TextColumn('{task.fields[text]}'),
            console=console,
            auto_refresh=False,
            expand=True,
        )
        self.task = self.progress.add_task(
            '', total=runner.max_iters, completed=runner.iter, text=''
        )
        self.streams: list[tuple[logging.StreamHandler, TextIO]] = []
        terminal = (sys.stdout, sys.stderr)
        self.progress.start()
        for handler in runner.logger.handlers:
            if type(handler) is logging.StreamHandler and (
                handler.stream in terminal
            ):
                # from now on sys.stdout is rich's, which knows of the bar
                self.streams.append((handler, handler.stream))
                handler.setStream(sys.stdout)

    def draw(self, done: int, text: str) -> None:
        self.progress.update(self.task, completed=done, text=text)
        self.progress.refresh()

    def close(self) -> None:
        for handler, stream in self.streams:
            handler.setStream(stream)
        self.streams.clear()
        self.progress.stop()
