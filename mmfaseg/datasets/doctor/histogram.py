"""Bar chart of the class frequencies.

Shapes:
    K: number of classes.
"""

from collections.abc import Mapping

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from .label_statistics import LabelStatistics
from .split import Split

ROW = 0.22  # inches per class and split


def draw_histogram(
    splits: Mapping[str, Split], statistics: Mapping[str, LabelStatistics]
) -> Figure:
    """Draws the share of pixels of each class, a bar per split.

    Args:
        splits (Mapping[str, Split]): by name; those with other classes than
            the first are left out.
        statistics (Mapping[str, LabelStatistics]): of each, by the same names.

    Returns:
        Figure: ready for ``mmfaseg.visualization.save_figure``.
    """
    shown = [x for x in statistics if statistics[x].num_images]
    classes = splits[shown[0]].classes if shown else ()
    shown = [x for x in shown if splits[x].classes == classes]
    rows = max(len(classes), 1) * (len(shown) + 0.6)
    figure = Figure(figsize=(9, 1.2 + ROW * rows), layout='constrained')
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    places = np.arange(len(classes))
    height = 0.8 / max(len(shown), 1)
    for number, name in enumerate(shown):
        stats = statistics[name]
        share = (
            100 * stats.pixel_counts / max(int(stats.pixel_counts.sum()), 1)
        )
        bars = axes.barh(
            places + number * height,
            share,
            height,
            label=f'{name}, {stats.num_images} images',
        )
        for bar, images in zip(bars, stats.image_counts, strict=True):
            axes.annotate(
                f'{images}' if images else 'never',
                (bar.get_width(), bar.get_y() + height / 2),
                (3, 0),
                textcoords='offset points',
                va='center',
                fontsize=7,
            )
    axes.set_xscale('symlog', linthresh=0.1)
    axes.set_xlim(left=0)
    axes.set_yticks(places + 0.4 - height / 2, classes)
    axes.invert_yaxis()
    axes.set_xlabel('% of the labelled pixels; at the bars: images')
    axes.spines[['top', 'right']].set_visible(False)
    if shown:
        axes.legend(frameon=False)
    return figure
