"""The account of a conversion: what became of every entry."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from .key_mapping import DECODER, Rule

State = Mapping[str, Tensor]
Shapes = Mapping[str, torch.Size]

CLASS_WEIGHTS = 'criterion.empty_weight'
NORMALIZATION = ('pixel_mean', 'pixel_std')
AUXILIARY = 'auxiliary_head.'  # for training only; FASeg's authors have none
# Buffers that a model makes itself: frozen batch norm counts no batches, and
# the place of two pixels in a window follows from its size.
NOT_LEARNED = ('.num_batches_tracked', '.relative_position_index')

# an entry that only this program's checkpoints have, the first match counts
FORMATS = {
    'mmfaseg': DECODER + 'predictor.norm.weight',
    'faseg': 'sem_seg_head.predictor.adapt_pos2d.0.weight',
    'mask2former': 'sem_seg_head.predictor.decoder_norm.weight',
    'mmseg-mask2former': DECODER + 'post_norm.weight',
}


class ConversionError(ValueError):
    """A checkpoint and a model do not fit; the message names every entry."""


@dataclass
class Entry:
    """What became of one entry of a checkpoint.

    Attributes:
        source (str): its name.
        target (str | None): its new name, None if it was left out.
        shape (tuple[int, ...]): as it was.
        rule (Rule | None): the pair of templates that renamed it.
        note (str): what happened to its values, or why it was left out.
    """

    source: str
    target: str | None
    shape: tuple[int, ...]
    rule: Rule | None = None
    note: str = ''


@dataclass
class Conversion:
    """A converted checkpoint.

    Attributes:
        state (dict[str, Tensor]): parameters and buffers by their new names.
        entries (list[Entry]): what became of each entry of the source.
        unexpected_keys (list[str]): entries of the source without a
            counterpart.
        missing_keys (list[str]): entries of the model that the source does
            not have.
    """

    state: dict[str, Tensor] = field(default_factory=dict)
    entries: list[Entry] = field(default_factory=list)
    unexpected_keys: list[str] = field(default_factory=list)
    missing_keys: list[str] = field(default_factory=list)

    def keep(
        self,
        source: str,
        target: str,
        rule: Rule,
        value: Tensor,
        shape: torch.Size,
        note: str = '',
    ) -> None:
        """Takes an entry over under its new name.

        Raises:
            ConversionError: if another entry has that name already.
        """
        if target in self.state:
            raise ConversionError(f'{source} would be a second {target}')
        self.state[target] = value
        self.entries.append(Entry(source, target, tuple(shape), rule, note))

    def drop(self, source: str, value: Tensor, note: str) -> None:
        """Leaves an entry out and says why."""
        self.entries.append(Entry(source, None, tuple(value.shape), note=note))

    def check(
        self,
        ours: State,
        shapes: Shapes,
        allow_missing: Callable[[str], bool] = lambda name: False,
    ) -> None:
        """Compares the entries under our names with our model.

        Args:
            ours (Mapping[str, Tensor]): the entries.
            shapes (Mapping[str, torch.Size]): the model's.
            allow_missing (Callable): whether a model's entry may be missing.
                ``NOT_LEARNED`` always may.

        Raises:
            ConversionError: if an entry is unexpected, missing or has another
                shape.
        """
        self.missing_keys = [name for name in shapes if name not in ours]
        problems = [f'unexpected: {name}' for name in self.unexpected_keys]
        problems += [
            f'unexpected: {name}'
            for name in ours
            if name not in shapes and name not in self.unexpected_keys
        ]
        problems += [
            f'missing: {name}'
            for name in self.missing_keys
            if not name.endswith(NOT_LEARNED) and not allow_missing(name)
        ]
        problems += [
            f'shape mismatch: {name} is {tuple(value.shape)}, the model has '
            f'{tuple(shapes[name])}'
            for name, value in ours.items()
            if name in shapes and value.shape != shapes[name]
        ]
        if problems:
            raise ConversionError(
                f'{len(problems)} entries do not fit; is it the config of '
                'this checkpoint?\n' + '\n'.join(problems)
            )


def detect_format(state: State) -> str:
    """Returns which program wrote a checkpoint, a key of ``FORMATS``.

    Raises:
        ConversionError: if it is none of them.
    """
    for name, entry in FORMATS.items():
        if entry in state:
            return name
    raise ConversionError(
        'the checkpoint is neither of FASeg nor of Mask2Former: it has none '
        f'of {list(FORMATS.values())} and begins with {list(state)[:3]}'
    )
