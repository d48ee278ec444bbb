"""Runs of scripts in several processes or in the test process."""

import os
import subprocess
import sys


def launch(root, processes, script, *arguments, options=(), timeout=300):
    """Runs a script with torchrun."""
    return subprocess.run(
        [
            *(sys.executable, '-m', 'torch.distributed.run', '--standalone'),
            *(f'--nproc_per_node={processes}', *options),
            *map(str, [script, *arguments]),
        ],
        env={**os.environ, 'PYTHONPATH': str(root), 'OMP_NUM_THREADS': '1'},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=timeout,
        check=False,
    )


def clear_visualizers():
    """Removes the visualizers of earlier runs in this process.

    mmengine would return the old ones, which have another directory.
    """
    from mmengine.visualization import Visualizer
    from mmseg.visualization import SegLocalVisualizer

    for visualizer in (Visualizer, SegLocalVisualizer):
        visualizer._instance_dict.clear()
