"""Pictures of where queries look, while a network trains."""

from collections.abc import Sequence

import numpy as np
from mmengine.dist import master_only
from mmengine.hooks import Hook
from mmengine.model import BaseModel, is_model_wrapper
from mmengine.runner import Runner

from mmfaseg.registry import HOOKS
from mmfaseg.visualization import draw_focus, figure_pixels, make_palette
from mmfaseg.visualization.explorer import Exploration, view_trace
from mmfaseg.visualization.tracing import head_of, trace_item


@HOOKS.register_module()
class FocusHook(Hook):
    """Logs where the queries look in a few pictures, after each validation.

    The visualizer hands everything to all of its ``vis_backends``: pictures
    ``focus_I`` go to local files, TensorBoard or W&B, and so do the numbers
    ``focus/entropy``, ``focus/overlap``, ``focus/drift`` and ``focus/turn``,
    means over blocks and over the queries that answer for pixels; see
    :class:`mmfaseg.visualization.explorer.BlockView`. Of several processes
    the first one draws.

    Args:
        indices (Sequence[int]): which pictures of the validation data.

    Raises:
        ValueError: if there is no such picture, no validation data, or the
            head cannot tell its focus.
    """

    priority = 'ABOVE_NORMAL'  # before EMAHook puts the other weights back

    def __init__(self, indices: Sequence[int] = (0, 1)) -> None:
        if not indices or min(indices) < 0:
            raise ValueError(
                f'indices must be numbers of pictures from 0 on: {indices}'
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
                'pictures to validate with'
            )
        head_of(_unwrap(runner))  # raises if it has no trace

    @master_only
    def after_val_epoch(
        self, runner: Runner, metrics: dict[str, float] | None = None
    ) -> None:
        """Draws, and logs the means."""
        dataset = runner.val_loop.dataloader.dataset
        model = _unwrap(runner)
        classes = dataset.metainfo['classes']
        palette = list(dataset.metainfo.get('palette') or ())
        if len(palette) != len(classes):
            palette = make_palette(len(classes))
        views = []
        for index in self.indices:
            traced = trace_item(model, dataset[index])
            figure = draw_focus(
                traced.output,
                traced.picture,
                classes,
                palette,
                min_score=traced.min_score,
            )
            runner.visualizer.add_image(
                f'focus_{index}', figure_pixels(figure), step=runner.iter
            )
            views.append(view_trace(traced, classes, palette))
        numbers = {
            f'focus/{name}': _mean(views, name)
            for name in ('entropy', 'overlap', 'drift', 'turn')
        }
        runner.visualizer.add_scalars(
            {key: x for key, x in numbers.items() if not np.isnan(x)},
            step=runner.iter,
        )


def _unwrap(runner: Runner) -> BaseModel:
    model = runner.model
    return model.module if is_model_wrapper(model) else model


def _mean(views: Sequence[Exploration], name: str) -> float:
    """Over blocks, queries and pictures, without what is unknown."""
    values = [getattr(block, name) for x in views for block in x.blocks]
    known = np.concatenate(values)
    known = known[~np.isnan(known)]
    return float(known.mean()) if len(known) else float('nan')
