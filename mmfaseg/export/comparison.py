"""Whether an exported network is the network.

Masks are cut at a threshold and windows are chosen by rank: where two values
are all but equal, rounding decides, and scores change by far more than
rounding. A file is not to blame for that. It is looked for only after a file
was found to differ.
"""

import copy
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from ..ops import use_backend
from .network import ExportedNetwork

# scores lie between 0 and the number of queries; a fused sum is another one
TOLERANCE = 1e-3
NUM_IMAGES = 5  # at each size, until one is decided
NUM_PERTURBATIONS, PERTURBATION = (
    4,
    1e-3,
)  # of 255: as much as rounding is worth


class Comparison(NamedTuple):
    """How a file compares with the network at one size.

    Attributes:
        difference (float): the largest of scores.
        labels (float): share of labels that are others.
    """

    difference: float
    labels: float


def compare(
    network: ExportedNetwork,
    run: Callable[[Tensor], tuple[Tensor, Tensor]],
    size: tuple[int, int, int],
    name: str,
) -> Comparison:
    """Compares scores and labels on an image of blocks of colours.

    Args:
        network (ExportedNetwork): on the CPU.
        run (Callable): gives scores and labels of an image, float32.
        size (tuple[int, int, int]): batch, height and width.
        name (str): of the file, for the error.

    Raises:
        RuntimeError: if scores differ by more than 1e-3, or labels are not
            those of the scores; it says so where the network is undecided on
            each of five images.
    """
    where = 'x'.join(map(str, size))
    changes = []
    for number in range(NUM_IMAGES):
        image = _draw(size, number)
        with use_backend('reference'):
            expected, labels = network(image)
        scores, found = run(image)
        difference = float((scores - expected).abs().max())
        # also where it is NaN
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
        f'undecided. Scores change by {min(changes):.2e} and more if an '
        f'image changes by {PERTURBATION} of 255, as for a model that has '
        'learnt next to nothing. Train it longer, or use other --sizes'
    )


@torch.no_grad()
def sensitivity(network: ExportedNetwork, image: Tensor) -> float:
    """Returns how far scores move for less than an image can hold.

    Args:
        network (ExportedNetwork): on the CPU.
        image (Tensor): float32, shape (B, 3, H, W).
    """
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


def _draw(size: tuple[int, int, int], number: int) -> Tensor:
    """Returns blocks of colours: noise alone looks like nothing."""
    batch, height, width = size
    generator = torch.Generator().manual_seed(height * width + number)
    shape = (batch, 3, height // 8, width // 8)
    colours = 255 * torch.rand(shape, generator=generator)
    return torch.nn.functional.interpolate(
        colours, (height, width), mode='nearest'
    )
