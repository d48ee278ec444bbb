"""Scripts in several processes."""

import os
import subprocess
import sys


def launch(root, processes, script, *arguments, options=(), timeout=300):
    """Runs a script in several processes, as torchrun does."""
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
