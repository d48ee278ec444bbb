"""Record of a conversion: what happened to each entry."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from .key_mapping import (
    DECODER,
    FASEG,
    HUGGING_FACE_MASK2FORMER,
    MASK2FORMER,
    MMFASEG,
    MMSEG_MASK2FORMER,
    Rule,
)

State = Mapping[str, Tensor]
Shapes = Mapping[str, torch.Size]

CLASS_WEIGHTS = 'criterion.empty_weight'
NORMALIZATION = ('pixel_mean', 'pixel_std')
AUXILIARY = 'auxiliary_head.'  # for training only; the authors have none
# Buffers that a model computes itself: frozen batch norm counts no batches,
# and relative positions follow from the window size.
NOT_LEARNED = ('.num_batches_tracked', '.relative_position_index')

# a key that only checkpoints of this program have; the first match counts
FORMATS = {
    MMFASEG: DECODER + 'predictor.norm.weight',
    FASEG: 'sem_seg_head.predictor.adapt_pos2d.0.weight',
    MASK2FORMER: 'sem_seg_head.predictor.decoder_norm.weight',
    MMSEG_MASK2FORMER: DECODER + 'post_norm.weight',
    HUGGING_FACE_MASK2FORMER: (
        'model.transformer_module.queries_features.weight'
    ),
}


class ConversionError(ValueError):
    """A checkpoint does not match a model; the message lists all entries."""


@dataclass
class Entry:
    """What happened to one entry of a checkpoint.

    Attributes:
        source (str): its name.
        target (str | None): its new name, None if it was dropped.
        shape (tuple[int, ...]): its shape in the source.
        rule (Rule | None): the pair of templates that mapped its name.
        note (str): how its values changed, or why it was dropped.
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
        entries (list[Entry]): one for each entry of the source.
        unexpected_keys (list[str]): entries of the source that no rule maps.
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
        """Copies an entry under its new name.

        Raises:
            ConversionError: if another entry already has this name.
        """
        if target in self.state:
            raise ConversionError(f'{source} is a second entry for {target}')
        self.state[target] = value
        self.entries.append(Entry(source, target, tuple(shape), rule, note))

    def drop(self, source: str, value: Tensor, note: str) -> None:
        """Drops an entry and records the reason."""
        self.entries.append(Entry(source, None, tuple(value.shape), note=note))

    def check(
        self,
        ours: State,
        shapes: Shapes,
        allow_missing: Callable[[str], bool],
    ) -> None:
        """Compares entries under the names of mmfaseg with a model.

        Entries of the model for which ``allow_missing`` is true may be
        missing, and so may ``NOT_LEARNED``.

        Raises:
            ConversionError: if an entry is unexpected, missing or has another
                shape.
        """
        self.missing_keys = [name for name in shapes if name not in ours]
        unknown = [name for name in ours if name not in shapes]
        # an entry can be both
        unexpected = dict.fromkeys(self.unexpected_keys + unknown)
        problems = [f'unexpected: {name}' for name in unexpected]
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
                f'{len(problems)} entries do not match: use the config of '
                'this checkpoint. For a model with other custom parts, set '
                'load_from instead; these parts keep their initial values.\n'
                + '\n'.join(problems)
            )

    def rename(self, to_key: Callable[[str], str]) -> None:
        """Replaces the new names, for example by those of a detector."""
        self.state = {to_key(k): x for k, x in self.state.items()}
        self.missing_keys = [to_key(k) for k in self.missing_keys]
        for entry in self.entries:
            if entry.target is not None:
                entry.target = to_key(entry.target)


def detect_format(state: State) -> str:
    """Returns the program that wrote a checkpoint, a key of ``FORMATS``.

    Raises:
        ConversionError: if the format is unknown.
    """
    for name, entry in FORMATS.items():
        if entry in state:
            return name
    raise ConversionError(
        'the checkpoint is neither of FASeg nor of Mask2Former: it has none '
        f'of {list(FORMATS.values())}; its first keys are {list(state)[:3]}'
    )
