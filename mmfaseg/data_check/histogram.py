"""Bar chart of the class frequencies."""

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from .check import DatasetReport

BAR_HEIGHT = 0.22  # inches per class and split


def draw_histogram(report: DatasetReport) -> Figure:
    """Draws the share of pixels of each class, with one bar per split.

    Each bar is labeled with the number of images that contain the class.

    Returns:
        Figure: to be saved with ``mmfaseg.visualization.save_figure``.
    """
    classes, statistics = report.class_frequencies()
    rows = max(len(classes), 1) * (len(statistics) + 0.6)
    figure = Figure(figsize=(9, 1.2 + BAR_HEIGHT * rows), layout='constrained')
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    positions = np.arange(len(classes))
    height = 0.8 / max(len(statistics), 1)
    for number, (name, stats) in enumerate(statistics.items()):
        bars = axes.barh(
            positions + number * height,
            stats.percentages,
            height,
            label=f'{name}, {stats.num_images} images',
        )
        axes.bar_label(
            bars,
            [f'{count}' if count else 'never' for count in stats.image_counts],
            padding=3,
            fontsize=7,
        )
    axes.set_xscale('symlog', linthresh=0.1)
    axes.set_xlim(left=0)
    axes.set_yticks(positions + 0.4 - height / 2, classes)
    axes.invert_yaxis()
    axes.set_xlabel('% of the labeled pixels (label: number of images)')
    axes.spines[['top', 'right']].set_visible(False)
    if statistics:
        axes.legend(frameon=False)
    return figure
