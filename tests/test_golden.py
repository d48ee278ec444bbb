"""Outputs of a tiny network equal those recorded in the repository.

They were recorded when test_parity.py passed.
"""

import functools

import golden_network
import numpy as np
import pytest

pytestmark = pytest.mark.smoke
# float64, 13 decoder layers; other kernels change the order of sums
TOLERANCE = 1e-8


@functools.cache
def results() -> tuple[dict, dict]:
    with (
        pytest.MonkeyPatch.context() as patch,
        np.load(golden_network.GOLDEN) as file,
    ):
        return dict(file), golden_network.compute(patch.setattr)


def test_tiny_network_equals_recorded_outputs():
    expected, actual = results()
    assert sorted(expected) == sorted(actual)
    for name, value in expected.items():
        np.testing.assert_allclose(
            actual[name],
            value,
            rtol=TOLERANCE,
            atol=TOLERANCE,
            err_msg=name,
        )


def test_tiny_network_covers_special_cases():
    """Blocked pixels, empty and full pools, and different windows occur."""
    expected, _ = results()
    assert expected['cls_scores'].shape == (14, 2, 6, 5)
    spread = expected['cls_scores'][-1].std(axis=1).mean()
    assert spread > 0.1, 'queries must differ'
    blocked = expected['blocked'] > 0
    assert 0.2 < blocked.mean() < 0.8, 'the threshold must block some pixels'
    pools = (expected['pool'] > 0).sum(-1)
    assert {0, 8} < set(pools.flatten().tolist()), 'pools: empty, full, other'
    windows = expected['windows']
    assert windows.shape == (3, 2, 2)
    assert (windows[0] != windows[2]).any(), 'windows must differ'
