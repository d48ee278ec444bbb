"""The networks that a command line names: one, and one to compare with."""

import argparse
from pathlib import Path

from ..visualization.tracing import head_of
from .inferencer import FASegInferencer


def add_networks(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments that :func:`load_networks` reads."""
    parser.add_argument(
        'model', help='work dir, config file, or name of a config'
    )
    parser.add_argument('--weights', help='checkpoint; a work dir has its own')
    parser.add_argument(
        '--rival',
        metavar='MODEL',
        help='another network, to stand beside it: such as the Mask2Former '
        'of configs/ablations',
    )
    parser.add_argument('--rival-weights', help='its checkpoint')
    parser.add_argument('--device', help='such as cpu or cuda:1')


def load_networks(args: argparse.Namespace) -> dict[str, FASegInferencer]:
    """Returns the networks by the names of their configs.

    Raises:
        FileNotFoundError: if there is no such config or checkpoint.
        ValueError: if a network cannot tell where its queries look, or there
            are weights for none.
    """
    if args.rival_weights is not None and args.rival is None:
        raise ValueError('--rival-weights needs --rival')
    found: dict[str, FASegInferencer] = {}
    wanted = [(args.model, args.weights), (args.rival, args.rival_weights)]
    for model, weights in wanted[: 1 if args.rival is None else 2]:
        network = FASegInferencer(model, weights, args.device)
        head_of(network.model)  # raises where it cannot tell
        name = Path(network.model.cfg.filename).stem
        found[f'{name} (rival)' if name in found else name] = network
    return found
