"""One cell of a study: a config trained and tested with one seed.

study.py runs this file in a process of its own; it also tells where the files
of a cell lie and whether it is done. A cell is a work dir with:
    cell.json     what is trained and tested, as two fingerprints
    trained.json  time, parameters and versions, written after training
    result.json   what came out, written when everything is done
"""

import argparse
import hashlib
import json
import platform
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import torch
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope
from mmengine.runner import Runner
from result_files import (
    LockedError,
    code_digest,
    folder_lock,
    read_json,
    write_json,
)

import mmfaseg
from mmfaseg.checkpoints import find_latest_checkpoint
from mmfaseg.evaluation import in_percent
from mmfaseg.utils.atomic_write import atomic_write

# what decides about the test alone
TEST_KEYS = ('test_dataloader', 'test_evaluator', 'test_cfg', 'test_pipeline')
# what decides about nothing but files and what is shown
HARMLESS_KEYS = (
    *('work_dir', 'tta_pipeline', 'tta_model', 'visualizer', 'vis_backends'),
    *('log_processor', 'log_level', 'env_cfg'),
)
HARMLESS_HOOKS = ('logger', 'checkpoint', 'timer', 'visualization')


class StudyError(Exception):
    """What the user has to decide about."""


@dataclass(frozen=True, eq=False)
class Cell:
    """A config and a seed.

    Attributes:
        config: file of the config.
        seed: of all randomness.
        out: folder of the whole study.
        options: settings that replace those of the config.
    """

    config: Path
    seed: int
    out: Path
    options: dict

    @property
    def row(self) -> str:
        """Name of the row, the config's up to the first underscore."""
        return self.config.stem.split('_')[0]

    @property
    def work_dir(self) -> Path:
        """Where everything of this cell lies."""
        return self.out / self.row / f'seed_{self.seed}'

    def load_config(self) -> Config:
        """Return the config of the run, but for the initial backbone."""
        cfg = Config.fromfile(self.config)
        cfg.merge_from_dict(self.options)
        cfg.randomness = dict(cfg.get('randomness', {}), seed=self.seed)
        cfg.work_dir = str(self.work_dir)
        return cfg

    def max_iters(self) -> int:
        """Return how long it trains."""
        return self.load_config().train_cfg.max_iters

    def fingerprints(self, cfg: Config | None = None) -> dict[str, str]:
        """Return what tells a changed training or test from this one.

        Args:
            cfg: what ``load_config`` gave, loaded if None.
        """
        cfg = (cfg or self.load_config()).to_dict()
        for key in HARMLESS_KEYS:
            cfg.pop(key, None)
        for key in HARMLESS_HOOKS:
            cfg.get('default_hooks', {}).pop(key, None)
        tested = {key: cfg.pop(key, None) for key in TEST_KEYS}
        return {'training': _digest(cfg), 'test': _digest(tested)}

    def result(self) -> dict | None:
        """Return what came out, None unless all is done.

        Raises:
            StudyError: if something else was trained in this folder.
        """
        mark, result = (
            read_json(self.work_dir / name)
            for name in ('cell.json', 'result.json')
        )
        if mark is None:
            return None
        ours = self.fingerprints()
        if mark['training'] != ours['training']:
            raise StudyError(
                f'{self.work_dir} holds a run of another version of '
                f'{self.config}: move it away, or choose another --out'
            )
        return result if result and result['test'] == ours['test'] else None

    def iteration(self) -> int:
        """Return how many iterations are done, as the log tells."""
        return max((x['step'] for x in self.scalars()), default=0)

    def scalars(self) -> list[dict]:
        """Return the lines of the logs, earlier runs first."""
        lines = []
        for file in sorted(self.work_dir.glob('*/vis_data/scalars.json')):
            for line in file.read_text().splitlines():
                try:
                    lines.append(json.loads(line))
                except json.JSONDecodeError:  # being written
                    continue
        return lines


def _digest(value: object) -> str:
    text = json.dumps(value, sort_keys=True, default=repr)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def share_backbone(cfg: Config, seed: int, out: Path) -> None:
    """Start all rows with a backbone of the same weights, if it has none.

    A head that draws other random numbers would otherwise also mean another
    backbone.
    """
    backbone = cfg.model.backbone
    if backbone.get('init_cfg') is not None:
        return
    name = f'{_digest(backbone.to_dict())}_seed_{seed}.pth'
    path = out / 'initial_backbones' / name
    if not path.exists():
        init_default_scope(cfg.get('default_scope', 'mmseg'))
        torch.manual_seed(seed)
        module = MODELS.build(backbone)
        module.init_weights()
        with atomic_write(path) as temporary:
            torch.save(module.state_dict(), temporary)
    backbone.init_cfg = dict(type='Pretrained', checkpoint=str(path))


def run(cell: Cell) -> None:
    """Train, or go on training, then test and write the result.

    Raises:
        LockedError: if another process does the same.
    """
    with folder_lock(cell.work_dir):
        if cell.result() is not None:
            return
        cfg = cell.load_config()
        prints = cell.fingerprints(cfg)
        mark = read_json(cell.work_dir / 'cell.json') or {}
        codes = list(dict.fromkeys([*mark.get('codes', []), code_digest()]))
        write_json(cell.work_dir / 'cell.json', dict(prints, codes=codes))
        share_backbone(cfg, cell.seed, cell.out)
        last = find_latest_checkpoint(cell.work_dir)
        trained = last is not None and Path(last).stem == (
            f'iter_{cfg.train_cfg.max_iters}'
        )
        if last is not None:
            cfg.load_from, cfg.resume = last, not trained
        runner = Runner.from_cfg(cfg)
        mmfaseg.log_stack_info()
        file = cell.work_dir / 'trained.json'
        if not trained or not file.exists():
            start = time.perf_counter()
            if not trained:
                runner.train()
            about = dict(
                # of the whole training, if it was not interrupted
                seconds=None if last else time.perf_counter() - start,
                parameters=count_parameters(runner.model),
                iterations=cfg.train_cfg.max_iters,
                versions=versions(codes),
            )
            write_json(file, about)
        metrics = in_percent(runner.test())
        result = dict(row=cell.row, seed=cell.seed, metrics=metrics)
        result |= dict(read_json(file), test=prints['test'])
        write_json(cell.work_dir / 'result.json', result)


def versions(codes: list[str]) -> dict[str, str | int]:
    """Return what the numbers were made by.

    Args:
        codes: digests of the sources, several if they changed between the
            start and the end of a training.
    """
    return dict(
        mmfaseg=f'{mmfaseg.__version__} (sources {" then ".join(codes)})',
        torch=torch.__version__,
        python=platform.python_version(),
        threads=torch.get_num_threads(),
    )


def count_parameters(model: torch.nn.Module) -> int:
    """Return the parameters of backbone and head, shared ones once."""
    names = (
        (name, x)
        for name, x in model.named_parameters()
        if 'auxiliary_head.' not in name
    )
    return sum(x.numel() for _, x in names)


def parse_cell(argv: list[str] | None = None) -> Cell:
    """Return the cell that the command line names."""
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('config', type=Path)
    parser.add_argument('--seed', type=int, required=True)
    parser.add_argument('--out', type=Path, required=True)
    parser.add_argument('--options', type=json.loads, default={}, help='JSON')
    args = parser.parse_args(argv)
    return Cell(args.config, args.seed, args.out, args.options)


if __name__ == '__main__':
    try:
        run(parse_cell())
    except (StudyError, LockedError) as error:
        sys.exit(str(error))
