"""Logging of the query focus during training."""

import logging
from collections.abc import Sequence

import numpy as np
from mmengine.dist import master_only
from mmengine.hooks import Hook
from mmengine.logging import print_log
from mmengine.runner import Runner

from mmfaseg.registry import HOOKS
from mmfaseg.utils.unwrap_model import unwrap_model
from mmfaseg.visualization import dataset_palette, draw_focus, figure_pixels
from mmfaseg.visualization.decoder_trace import find_traceable_head
from mmfaseg.visualization.explorer import explore, nan_mean


@HOOKS.register_module()
class FocusHook(Hook):
    """Logs the query focus on a few images after each validation epoch.

    Figures ``focus_INDEX`` and the scalars ``focus/entropy``,
    ``focus/overlap``, ``focus/drift`` and ``focus/turn`` are logged to all
    ``vis_backends`` of the visualizer. Scalars are means over layers and over
    queries that predict pixels; see
    :class:`mmfaseg.visualization.explorer.LayerView`.

    Args:
        indices (Sequence[int]): indices of validation images.

    Raises:
        ValueError: if an index is out of range, the config has no validation,
            or the head cannot be traced.
    """

    priority = 'ABOVE_NORMAL'  # before EMAHook restores the weights

    def __init__(self, indices: Sequence[int] = (0, 1)) -> None:
        if not indices or min(indices) < 0:
            raise ValueError(
                f'indices must be one or more integers >= 0, got {indices}'
            )
        self.indices = list(indices)

    def before_train(self, runner: Runner) -> None:
        """Checks the indices and the model."""
        if runner.val_loop is None:
            raise ValueError(
                'FocusHook requires validation: set val_dataloader, val_cfg '
                'and val_evaluator, or remove the hook'
            )
        length = len(runner.val_loop.dataloader.dataset)
        if max(self.indices) >= length:
            raise ValueError(
                f'FocusHook: indices={self.indices}, but there are only '
                f'{length} validation images'
            )
        # raises if the head cannot be traced
        find_traceable_head(unwrap_model(runner.model))

    @master_only
    def after_val_epoch(
        self, runner: Runner, metrics: dict[str, float] | None = None
    ) -> None:
        """Logs the figures and scalars, or a warning if that fails."""
        try:
            self._log_focus(runner)
        except Exception as error:  # must not end the training
            print_log(
                f'FocusHook logged no attention at iteration {runner.iter}: '
                f'{type(error).__name__}: {error}',
                logger='current',
                level=logging.WARNING,
            )

    def _log_focus(self, runner: Runner) -> None:
        dataset = runner.val_loop.dataloader.dataset
        model = unwrap_model(runner.model)
        classes = dataset.metainfo['classes']
        palette = dataset_palette(dataset)
        layers: list = []
        for index in self.indices:
            view = explore(model, dataset[index], classes, palette)
            runner.visualizer.add_image(
                f'focus_{index}',
                figure_pixels(draw_focus(view)),
                step=runner.iter,
            )
            layers += view.layers
        numbers = {
            f'focus/{name}': nan_mean([getattr(x, name) for x in layers])
            for name in ('entropy', 'overlap', 'drift', 'turn')
        }
        runner.visualizer.add_scalars(
            {key: x for key, x in numbers.items() if not np.isnan(x)},
            step=runner.iter,
        )
