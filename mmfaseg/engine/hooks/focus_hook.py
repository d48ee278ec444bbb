"""Figures of where queries look, logged during training."""

from collections.abc import Sequence

import numpy as np
from mmengine.dist import master_only
from mmengine.hooks import Hook
from mmengine.runner import Runner

from mmfaseg.registry import HOOKS
from mmfaseg.utils.unwrap_model import unwrap_model
from mmfaseg.visualization import dataset_palette, draw_focus, figure_pixels
from mmfaseg.visualization.decoder_trace import find_traceable_head
from mmfaseg.visualization.explorer import Exploration, explore, nan_mean


@HOOKS.register_module()
class FocusHook(Hook):
    """Logs where the queries look in a few images, after each validation.

    The visualizer hands everything to all of its ``vis_backends``: images
    ``focus_I`` go to local files, TensorBoard or W&B, and so do the numbers
    ``focus/entropy``, ``focus/overlap``, ``focus/drift`` and ``focus/turn``,
    means over layers and over the queries that answer for pixels; see
    :class:`mmfaseg.visualization.explorer.LayerView`. Of several processes
    the first one draws.

    Args:
        indices (Sequence[int]): which images of the validation data.

    Raises:
        ValueError: if there is no such image, no validation data, or the
            head cannot tell its focus.
    """

    priority = 'ABOVE_NORMAL'  # before EMAHook puts the other weights back

    def __init__(self, indices: Sequence[int] = (0, 1)) -> None:
        if not indices or min(indices) < 0:
            raise ValueError(
                f'indices must be numbers of images from 0 on: {indices}'
            )
        self.indices = list(indices)

    def before_train(self, runner: Runner) -> None:
        """Sees to it that there will be something to draw."""
        if runner.val_loop is None:
            raise ValueError(
                'FocusHook draws after validation: give val_dataloader, '
                'val_cfg and val_evaluator, or take the hook out'
            )
        length = len(runner.val_loop.dataloader.dataset)
        if max(self.indices) >= length:
            raise ValueError(
                f'FocusHook: indices={self.indices}, but there are {length} '
                'images to validate with'
            )
        find_traceable_head(
            unwrap_model(runner.model)
        )  # raises if it has no trace

    @master_only
    def after_val_epoch(
        self, runner: Runner, metrics: dict[str, float] | None = None
    ) -> None:
        """Draws, and logs the means."""
        dataset = runner.val_loop.dataloader.dataset
        model = unwrap_model(runner.model)
        classes = dataset.metainfo['classes']
        palette = dataset_palette(dataset)
        views = []
        for index in self.indices:
            view = explore(model, dataset[index], classes, palette)
            runner.visualizer.add_image(
                f'focus_{index}',
                figure_pixels(draw_focus(view)),
                step=runner.iter,
            )
            views.append(view)
        numbers = {
            f'focus/{name}': _mean(views, name)
            for name in ('entropy', 'overlap', 'drift', 'turn')
        }
        runner.visualizer.add_scalars(
            {key: x for key, x in numbers.items() if not np.isnan(x)},
            step=runner.iter,
        )


def _mean(views: Sequence[Exploration], name: str) -> float:
    """Over layers, queries and images, without what is unknown."""
    return nan_mean([getattr(x, name) for view in views for x in view.layers])
