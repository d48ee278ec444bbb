"""The tutorial notebook runs from top to bottom."""

import json

import pytest


@pytest.mark.slow
def test_tutorial_runs_without_a_network_connection(
    root, run_python, tmp_path
):
    cells = json.loads((root / 'demo/mmfaseg_tutorial.ipynb').read_text())
    code = [
        ''.join(cell['source'])
        for cell in cells['cells']
        if cell['cell_type'] == 'code'
    ]
    assert len(code) > 5
    script = tmp_path / 'tutorial.py'
    script.write_text('\n'.join(code))
    done = run_python(script, cwd=root / 'demo')
    assert 'IoU nucleus' in done.stdout
    assert "'mIoU'" in done.stdout
