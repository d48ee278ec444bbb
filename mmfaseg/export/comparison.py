"""Comparison of exported networks with PyTorch.

Masks are thresholded and windows are selected by rank. If two values are
almost equal, rounding decides, and scores change by much more than rounding
errors. A difference counts as an export error only if the network itself is
less sensitive to tiny changes of its input.
"""

import copy
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from ..ops import use_backend
from .network import ExportedNetwork

TOLERANCE = 1e-3  # scores are between 0 and the number of queries
NUM_IMAGES = 5  # tried at each size while the network is too sensitive
NUM_PERTURBATIONS = 4
PERTURBATION = 1e-3  # of 255, comparable to rounding errors


class Comparison(NamedTuple):
    """Maximum difference of the scores, and fraction of differing labels."""

    difference: float
    labels: float


def compare(
    network: ExportedNetwork,
    run: Callable[[Tensor], tuple[Tensor, Tensor]],
    size: tuple[int, int, int],
    name: str,
) -> Comparison:
    """Compares scores and labels on an image of colored squares.

    Args:
        network (ExportedNetwork): On the CPU.
        run (Callable): Returns scores and labels of an image, float32.
        size (tuple[int, int, int]): Batch, height and width.
        name (str): Name of the file, for the error message.

    Raises:
        RuntimeError: If scores differ by more than 1e-3, if the labels do not
            match the scores, or if the network is too sensitive to compare on
            each of five images.
    """
    where = 'x'.join(map(str, size))
    changes = []
    for number in range(NUM_IMAGES):
        image = _make_image(size, network.in_channels, number)
        with use_backend('reference'):
            expected, labels = network(image)
        scores, found = run(image)
        difference = float((scores - expected).abs().max())
        # False for NaN
        if difference <= TOLERANCE and torch.equal(scores.argmax(1), found):
            others = float((found != labels).float().mean())
            return Comparison(difference, others)
        change = sensitivity(network, image)
        if not change > TOLERANCE:
            raise RuntimeError(
                f'{name} differs from PyTorch by {difference:.2e} at {where}: '
                'do not use it, and please report the config'
            )
        changes.append(change)
    raise RuntimeError(
        f'{name} cannot be compared with PyTorch at {where}: the network is '
        f'too sensitive. Scores change by at least {min(changes):.2e} if an '
        f'image changes by {PERTURBATION} of 255, which is common for barely '
        'trained models. Train it longer, or use other --sizes'
    )


@torch.no_grad()
def sensitivity(network: ExportedNetwork, image: Tensor) -> float:
    """Returns how much scores change with rounding errors and tiny noise."""
    exact = copy.deepcopy(network).double()
    generator = torch.Generator().manual_seed(0)
    with use_backend('reference'):
        expected, _ = network(image)
        changes = [(exact(image.double())[0] - expected).abs().max()]
        for _ in range(NUM_PERTURBATIONS):
            noise = torch.rand(image.shape, generator=generator) - 0.5
            perturbed, _ = network(image + 2 * PERTURBATION * noise)
            changes.append((perturbed - expected).abs().max())
    return float(max(changes))


def _make_image(
    size: tuple[int, int, int], channels: int, number: int
) -> Tensor:
    """Returns images of randomly colored squares."""
    batch, height, width = size
    generator = torch.Generator().manual_seed(height * width + number)
    shape = (batch, channels, height // 8, width // 8)
    colors = 255 * torch.rand(shape, generator=generator)
    return colors.repeat_interleave(8, 2).repeat_interleave(8, 3)
