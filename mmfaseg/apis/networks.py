"""Command line arguments for a model and one to compare it with."""

import argparse
from pathlib import Path

from ..visualization.tracing import find_traceable_head
from .inferencer import FASegInferencer


def add_model_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments that :func:`load_models` reads."""
    parser.add_argument(
        'model', help='work dir, config file, or name of a config'
    )
    parser.add_argument('--weights', help='checkpoint; a work dir has its own')
    parser.add_argument(
        '--compare',
        metavar='MODEL',
        help='second model to show next to the first, such as the '
        'Mask2Former of configs/ablations',
    )
    parser.add_argument(
        '--compare-weights', help='checkpoint of the second model'
    )
    parser.add_argument('--device', help='such as cpu or cuda:1')


def load_models(args: argparse.Namespace) -> dict[str, FASegInferencer]:
    """Loads the models; returns them by the names of their configs.

    Raises:
        FileNotFoundError: if there is no such config or checkpoint.
        ValueError: if a network cannot tell where its queries look, or there
            are weights for none.
    """
    if args.compare_weights is not None and args.compare is None:
        raise ValueError('--compare-weights needs --compare')
    found: dict[str, FASegInferencer] = {}
    models = [(args.model, args.weights), (args.compare, args.compare_weights)]
    for model, weights in models[: 1 if args.compare is None else 2]:
        network = FASegInferencer(model, weights, args.device)
        find_traceable_head(network.model)  # raises if there is none
        name = Path(network.model.cfg.filename).stem
        found[f'{name} (2)' if name in found else name] = network
    return found
