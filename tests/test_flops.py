"""The counter of tools/analysis_tools/get_flops.py, and what it counts."""

import re

import pytest


def test_faseg_r50_costs_what_was_published(root, run_python):
    """72 G and 51 M for ADE20K at 512x512 (README of the paper's release)."""
    done = run_python(
        root / 'tools/analysis_tools/get_flops.py',
        root / 'configs/faseg/faseg_r50_8xb2-160k_ade20k-512x512.py',
    )
    row = re.search(r'all +\S +([\d.]+) +\S +([\d.]+)', done.stdout)
    parameters, flops = map(float, row.groups())
    assert parameters == pytest.approx(51, rel=0.01)
    assert flops == pytest.approx(72, rel=0.05)
    assert 'scaled_dot_product_attention' in done.stdout


def test_the_baseline_is_counted_as_well(root, run_python):
    done = run_python(
        root / 'tools/analysis_tools/get_flops.py',
        root / 'configs/mask2former/mask2former_r18_1xb8-3k_shapes-128x128.py',
        *('--shape', 128, 128),
    )
    assert 'decode_head.transformer_decoder' in done.stdout
