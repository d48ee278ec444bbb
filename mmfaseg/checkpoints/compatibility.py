"""Loading of weights and checks whether they match a network.

mmengine only warns about weights that are missing or have another shape, and
keeps their random initialization.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from mmengine.runner import load_checkpoint
from torch import Tensor, nn

from ..utils.non_finite import name_non_finite
from .conversion import AUXILIARY, NOT_LEARNED
from .files import PARALLEL


class IncompatibleCheckpointError(ValueError):
    """The weights of a checkpoint cannot be used for a network."""


def load_weights(network: nn.Module, path: str | Path) -> dict[str, Any]:
    """Loads a checkpoint and returns its content.

    Args:
        network (nn.Module): the network, on the CPU.
        path (str | Path): path of the checkpoint.

    Raises:
        OSError: if the file cannot be read.
        ValueError: if the file is damaged.
        IncompatibleCheckpointError: if it does not match the network.
    """
    content = load_checkpoint(network, str(path), map_location='cpu')
    check_compatible(content.get('state_dict', content), network, path)
    return dict(content)


def check_compatible(
    state: Mapping[str, Tensor],
    network: nn.Module,
    path: str | Path,
    with_auxiliary: bool = False,
) -> None:
    """Rejects weights that do not match a network.

    Args:
        state (Mapping[str, Tensor]): the weights.
        network (nn.Module): the network that loads them.
        path (str | Path): path of the file, for error messages.
        with_auxiliary (bool): also check the auxiliary heads, which are
            used for training only.

    Raises:
        IncompatibleCheckpointError: if a weight is missing, has another shape
            or is not finite. Unexpected keys are ignored.
    """
    known = dict(_named(state))
    missing, mismatched = [], []
    for name, value in _named(network.state_dict()):
        if name not in known:
            auxiliary = name.startswith(AUXILIARY) and not with_auxiliary
            if not auxiliary and not name.endswith(NOT_LEARNED):
                missing.append(name)
        elif known[name].shape != value.shape:
            mismatched.append(
                f'{name} is {tuple(known[name].shape)} in the file, but '
                f'{tuple(value.shape)} in the network'
            )
    if missing:
        raise IncompatibleCheckpointError(
            f'{path} lacks {len(missing)} weights of the network, such as '
            f'{missing[0]}: use the config of this checkpoint'
        )
    if mismatched:
        raise IncompatibleCheckpointError(
            f'{path} has {len(mismatched)} weights of another shape: '
            f'{mismatched[0]}. Use the config of this checkpoint, with the '
            'same number of classes'
        )
    check_finite(state, path)


def check_any_fits(
    state: Mapping[str, Tensor], network: nn.Module, path: str | Path
) -> None:
    """Raises an error if no weight matches the network in name and shape.

    The arguments are those of :func:`check_compatible`.
    """
    given = {name: value.shape for name, value in _named(state)}
    wanted = {name: x.shape for name, x in _named(network.state_dict())}
    if given.items() & wanted.items():
        return
    names = f'{next(iter(given), "none")!r} in the file'
    raise IncompatibleCheckpointError(
        f'{path}: none of its {len(given)} weights matches the network, which '
        f'would keep its initial values ({names}, {next(iter(wanted))!r} in '
        'the network). Convert the file with '
        '`mmfaseg convert`, or set the weights of a '
        "backbone as model.backbone.init_cfg=dict(type='Pretrained', "
        'checkpoint=...) instead of load_from'
    )


def check_finite(state: Mapping[str, Tensor], path: str | Path) -> None:
    """Raises an error if a weight in a file is NaN or infinite."""
    name = name_non_finite(_named(state))
    if name:
        raise IncompatibleCheckpointError(
            f'{path} contains weights that are not finite: {name}. Use an '
            'older checkpoint; mmfaseg.NonFiniteHook finds the origin of such '
            'values'
        )


def _named(state: Mapping[str, Tensor]) -> Iterator[tuple[str, Tensor]]:
    """Yields the tensors by their names in an unwrapped model."""
    for name, value in state.items():
        if isinstance(value, Tensor):
            yield name.removeprefix(PARALLEL), value
