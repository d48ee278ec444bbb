"""One cell of a study: training and testing with one config and one seed.

study.py runs this file in a separate process. The work dir of a cell contains
    cell.json     fingerprints of the settings
    trained.json  time, parameters and versions, written after training
    result.json   metrics, written after testing
"""

import argparse
import hashlib
import json
import platform
import sys
import time
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch
from grid import GridError, digest, folder_lock, read_json, write_json
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope
from mmengine.runner import Runner

import mmfaseg
from mmfaseg.checkpoints import find_latest_checkpoint
from mmfaseg.evaluation import in_percent
from mmfaseg.utils.atomic_write import atomic_write
from mmfaseg.utils.command_line import hide_known_warnings, load_config

SOURCES = ('*.py', '*.cpp', '*.cu', '*.h')
# settings that affect testing only
TEST_KEYS = ('test_dataloader', 'test_evaluator', 'test_cfg', 'test_pipeline')
# settings that do not affect the results
IGNORED_KEYS = (
    *('work_dir', 'tta_pipeline', 'tta_model', 'visualizer', 'vis_backends'),
    *('log_processor', 'log_level', 'env_cfg'),
)
IGNORED_HOOKS = ('logger', 'checkpoint', 'timer', 'visualization')


@dataclass(frozen=True, eq=False)
class Cell:
    """A config and a seed."""

    config: Path
    seed: int
    out: Path  # directory of the study
    options: dict  # settings that override those of the config

    @property
    def row(self) -> str:
        """Name of the row: the file name up to the first underscore."""
        return self.config.stem.split('_')[0]

    @property
    def name(self) -> str:
        """Row and seed, for messages."""
        return f'{self.row}, seed {self.seed}'

    @property
    def work_dir(self) -> Path:
        """Directory of this cell."""
        return self.out / self.row / f'seed_{self.seed}'

    def load_config(self) -> Config:
        """Returns the config of the run, without the shared backbone."""
        cfg = load_config(self.config, self.options)
        cfg.randomness = dict(cfg.get('randomness') or {}, seed=self.seed)
        cfg.work_dir = str(self.work_dir)
        return cfg

    @cached_property
    def max_iters(self) -> int:
        """Length of the training.

        Raises:
            GridError: if the training is not iteration-based.
        """
        max_iters = self.load_config().train_cfg.get('max_iters')
        if max_iters is None:
            raise GridError(
                f'{self.config} has no train_cfg.max_iters: the study '
                'requires iteration-based training'
            )
        return max_iters

    def fingerprints(self) -> dict[str, str]:
        """Returns hashes of the settings of training and testing."""
        cfg = self.load_config().to_dict()
        for key in IGNORED_KEYS:
            cfg.pop(key, None)
        for key in IGNORED_HOOKS:
            (cfg.get('default_hooks') or {}).pop(key, None)
        test = {key: cfg.pop(key, None) for key in TEST_KEYS}
        return {'training': digest(cfg), 'test': digest(test)}

    def result(self) -> dict | None:
        """Returns the result, or None if the cell is not finished.

        Raises:
            GridError: if the work dir has a run with other training settings.
        """
        mark, result = (
            read_json(self.work_dir / name)
            for name in ('cell.json', 'result.json')
        )
        if mark is None:
            return None
        expected = self.fingerprints()
        if mark['training'] != expected['training']:
            raise GridError(
                f'{self.work_dir} contains a run of another version of '
                f'{self.config}: move it away, or choose another --out'
            )
        is_current = result and result['test'] == expected['test']
        return result if is_current else None

    def iteration(self) -> int:
        """Returns the number of logged iterations."""
        return max((x['step'] for x in self.scalars()), default=0)

    def fraction(self) -> float:
        """Returns the completed fraction of the training."""
        return self.iteration() / self.max_iters

    def scalars(self) -> list[dict]:
        """Returns the entries of all logs, oldest run first."""
        lines = []
        for file in sorted(self.work_dir.glob('*/vis_data/scalars.json')):
            for line in file.read_text().splitlines():
                try:
                    lines.append(json.loads(line))
                except json.JSONDecodeError:  # a line that is being written
                    continue
        return lines


def share_backbone(cfg: Config, seed: int, out: Path) -> None:
    """Initializes the backbone of all rows with the same weights.

    Otherwise, random numbers drawn by the head would affect the backbone.
    Does nothing if the backbone has an ``init_cfg``.
    """
    backbone = cfg.model.backbone
    if backbone.get('init_cfg') is not None:
        return
    name = f'{digest(backbone.to_dict())}_seed_{seed}.pth'
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
    """Trains or resumes a cell, tests it and writes the result.

    Raises:
        GridError: if another process runs the cell.
    """
    with folder_lock(cell.work_dir):
        if cell.result() is not None:
            return
        cfg = cell.load_config()
        fingerprints = cell.fingerprints()
        mark = read_json(cell.work_dir / 'cell.json') or {}
        codes = list(dict.fromkeys([*mark.get('codes', []), code_digest()]))
        write_json(
            cell.work_dir / 'cell.json', dict(fingerprints, codes=codes)
        )
        share_backbone(cfg, cell.seed, cell.out)
        last = find_latest_checkpoint(cell.work_dir)
        is_trained = (
            last is not None and Path(last).stem == f'iter_{cell.max_iters}'
        )
        if last is not None:
            cfg.load_from, cfg.resume = last, not is_trained
        runner = Runner.from_cfg(cfg)
        mmfaseg.log_stack_info()
        file = cell.work_dir / 'trained.json'
        if not is_trained or not file.exists():
            start = time.perf_counter()
            if not is_trained:
                runner.train()
            training = dict(
                # unknown if the training was interrupted
                seconds=None if last else time.perf_counter() - start,
                parameters=count_parameters(runner.model),
                iterations=cell.max_iters,
                versions=versions(codes),
            )
            write_json(file, training)
        if not is_trained:
            # after training, EMAHook would test the weights of the optimizer
            # instead of the moving average, which the checkpoint contains
            cfg.load_from = find_latest_checkpoint(cell.work_dir)
            cfg.resume = False
            runner = Runner.from_cfg(cfg)
        metrics = in_percent(runner.test())
        result = dict(row=cell.row, seed=cell.seed, metrics=metrics)
        result |= dict(read_json(file), test=fingerprints['test'])
        write_json(cell.work_dir / 'result.json', result)


def versions(codes: list[str]) -> dict[str, str | int]:
    """Returns the versions that a result depends on.

    ``codes`` are the hashes of the source code, in order, if it changed
    between resumed runs.
    """
    return dict(
        mmfaseg=f'{mmfaseg.__version__} (sources {" then ".join(codes)})',
        torch=torch.__version__,
        python=platform.python_version(),
        threads=torch.get_num_threads(),
    )


def code_digest() -> str:
    """Returns a hash of the source code of the imported package."""
    folder = Path(mmfaseg.__file__).parent
    sources = hashlib.sha256()
    for pattern in SOURCES:
        for path in sorted(folder.rglob(pattern)):
            sources.update(str(path.relative_to(folder)).encode())
            sources.update(path.read_bytes())
    return sources.hexdigest()[:8]


def count_parameters(model: torch.nn.Module) -> int:
    """Returns the number of parameters without auxiliary heads."""
    return sum(
        x.numel()
        for name, x in model.named_parameters()
        if 'auxiliary_head.' not in name
    )


def parse_cell(argv: list[str] | None = None) -> Cell:
    """Returns the cell given on the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('config', type=Path)
    parser.add_argument('--seed', type=int, required=True)
    parser.add_argument('--out', type=Path, required=True)
    parser.add_argument('--options', type=json.loads, default={}, help='JSON')
    args = parser.parse_args(argv)
    return Cell(args.config, args.seed, args.out, args.options)


if __name__ == '__main__':
    hide_known_warnings()
    try:
        run(parse_cell())
    except GridError as error:
        sys.exit(str(error))
