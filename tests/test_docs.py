"""Tests of README, docs, changelog, metafile and config tables."""

import ast
import importlib
import inspect
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from mmengine.config import Config
from mmengine.registry import Registry
from PIL import Image

import mmfaseg.registry
from mmfaseg.utils.input_channels import input_channels
from mmfaseg.version import __version__

ROOT = Path(__file__).parent.parent
PAGES = sorted(
    path
    for path in ROOT.rglob('*.md')
    if not any(part.startswith('.') for part in path.relative_to(ROOT).parts)
)


def test_links_resolve():
    missing = [
        f'{page.relative_to(ROOT)}: {link}'
        for page in PAGES
        for link in re.findall(r'\]\(([^)#\s]+)', page.read_text())
        if not link.startswith('http') and not (page.parent / link).exists()
    ]
    assert missing == []


def test_files_named_in_readme_commands_exist():
    text = (ROOT / 'README.md').read_text()
    paths = re.findall(r'\b(?:tools|configs)/[\w./-]+\.(?:py|sh)\b', text)
    assert len(paths) > 5
    assert [path for path in paths if not (ROOT / path).is_file()] == []


def test_code_blocks_of_the_readme_fit_the_page():
    text = (ROOT / 'README.md').read_text()
    blocks = re.findall(r'^```\w+\n(.*?)^```', text, re.MULTILINE | re.DOTALL)
    assert len(blocks) > 5
    lines = '\n'.join(blocks).splitlines()
    assert [line for line in lines if len(line) > 88] == []


def test_latest_release_of_the_changelog_is_the_version():
    text = (ROOT / 'CHANGELOG.md').read_text()
    titles = re.findall(r'^## \[(.+?)\](.*)$', text, re.MULTILINE)
    assert titles[0] == ('Unreleased', '')
    version, date = titles[1]
    assert version == __version__
    assert re.fullmatch(r' - \d{4}-\d\d-\d\d', date)


def _table(page):
    """Returns the rows of a page that start with a link to a config."""
    rows = {}
    for line in page.read_text().splitlines():
        if match := re.match(r'\| \[(\w[^\]]+)\]\(\1\.py\) \|', line):
            name = match.group(1)
            assert name not in rows, f'duplicate row {name}'
            rows[name] = [x.strip() for x in line.split('|')[2:-1]]
    return rows


def _metafile():
    text = (ROOT / 'configs/faseg/metafile.yaml').read_text()
    return yaml.safe_load(text)


def _metrics(model):
    """Returns the metrics of a model on its dataset, empty without results."""
    return model['Results'][0]['Metrics'] if model['Results'] else {}


def test_table_and_metafile_list_all_configs():
    folder = ROOT / 'configs/faseg'
    files = sorted(path.stem for path in folder.glob('*.py'))
    assert sorted(_table(folder / 'README.md')) == files
    models = _metafile()['Models']
    assert sorted(model['Name'] for model in models) == files
    for model in models:
        assert model['Config'] == f'configs/faseg/{model["Name"]}.py'


def test_metafile_names_files_and_sources_of_results():
    (collection,) = _metafile()['Collections']
    assert (ROOT / 'configs/faseg' / collection['README']).is_file()
    assert (ROOT / collection['Code']['URL']).is_file()
    data = []
    for model in _metafile()['Models']:
        metadata = model['Metadata']
        assert model['In Collection'] == collection['Name']
        if 'Weights' in model:
            name = model['Weights'].split('/raw/main/')[1]
            assert name == f'mmfaseg/weights/{model["Name"]}.safetensors'
            assert (ROOT / name).is_file()
        metrics = _metrics(model)
        assert set(metrics) <= {
            'mIoU',
            'mIoU (paper)',
            'mIoU(ms+flip) (paper)',
        }
        is_published = any('(paper)' in x for x in metrics)
        assert ('Paper results' in metadata) == is_published
        data.append(metadata['Training Data'])
    assert set(data) == set(collection['Metadata']['Training Data'])


def test_table_and_metafile_agree():
    table = _table(ROOT / 'configs/faseg/README.md')
    for model in _metafile()['Models']:
        metadata, metrics = model['Metadata'], _metrics(model)
        batch, parameters, flops, paper, ours = table[model['Name']]
        assert int(batch.split(',')[0]) == metadata['Batch Size']
        assert parameters == f'{metadata["Parameters"] / 1e6:.2f}'
        counted = f'{metadata["FLOPs"] / 1e9:.2f} at {metadata["Counted at"]}'
        assert flops == counted
        published = [
            str(metrics.get(f'{key} (paper)', '-'))
            for key in ('mIoU', 'mIoU(ms+flip)')
        ]
        expected = ' / '.join(published)
        assert paper == ('' if expected == '- / -' else expected)
        assert ours == (f'{metrics["mIoU"]:.2f}' if 'mIoU' in metrics else '')


def test_table_agrees_with_iterations_of_the_configs():
    for name, row in _table(ROOT / 'configs/faseg/README.md').items():
        path = ROOT / f'configs/faseg/{name}.py'
        cfg = Config.fromfile(path, import_custom_modules=False)
        iterations = row[0].split(', ')[1].replace('k', '000')
        assert int(iterations) == cfg.train_cfg.max_iters


def test_paper_results_are_those_of_the_authors_readme():
    results = {
        model['Name']: tuple(
            _metrics(model).get(f'{key} (paper)')
            for key in ('mIoU', 'mIoU(ms+flip)')
        )
        for model in _metafile()['Models']
    }
    swin = 'in22k-384x384-pre_8xb2-160k_ade20k-640x640'
    assert {x: y for x, y in results.items() if y != (None, None)} == {
        'faseg_r50_8xb2-160k_ade20k-512x512': (48.3, 49.3),
        'faseg_swin-t_8xb2-160k_ade20k-512x512': (49.6, 51.3),
        f'faseg_swin-b-{swin}': (55.0, 56.0),
        f'faseg_swin-l-{swin}': (56.3, 57.7),
        'faseg_r50_8xb2-90k_cityscapes-512x1024': (80.5, None),
    }


def test_costs_in_benchmark_results_and_metafile_agree():
    text = (ROOT / 'benchmarks/RESULTS.md').read_text()
    for model in _metafile()['Models']:
        metadata = model['Metadata']
        row = (
            f'| {model["Name"]} | {metadata["Counted at"]} '
            f'| {metadata["Parameters"] / 1e6:.2f} '
            f'| {metadata["FLOPs"] / 1e9:.2f} |'
        )
        assert row in text


# the documentation site

REFERENCE = sorted((ROOT / 'docs/reference').glob('*.md'))


def _find(name):
    """Returns the object with a full name."""
    parts = name.split('.')
    for n in range(len(parts) - 1, 0, -1):
        try:
            found = importlib.import_module('.'.join(parts[:n]))
        except ModuleNotFoundError:
            continue
        for part in parts[n:]:
            found = getattr(found, part)
        return found
    raise AssertionError(f'unknown name {name}')


def _registered():
    """Returns all registered classes of this package by name."""
    for name in ('models', 'datasets', 'engine', 'evaluation'):
        importlib.import_module(f'mmfaseg.{name}')
    found = {
        name: kind
        for registry in vars(mmfaseg.registry).values()
        if isinstance(registry, Registry) and registry.scope == 'mmfaseg'
        for name, kind in registry.module_dict.items()
    }
    assert len(found) > 15
    return found


def test_reference_describes_all_registered_classes():
    names = [
        name
        for page in REFERENCE
        for name in re.findall(r'^::: (\S+)$', page.read_text(), re.MULTILINE)
    ]
    described = {_find(name) for name in names}
    assert set(_registered().values()) - described == set()


def _example_dicts():
    """Yields type and arguments of the config examples in the reference."""
    for page in REFERENCE:
        blocks = re.findall(
            r'```python\n(.*?)```', page.read_text(), re.DOTALL
        )
        for node in ast.walk(ast.parse('\n'.join(blocks))):
            if not isinstance(node, ast.Call) or node.func.id != 'dict':
                continue
            values = {keyword.arg: keyword.value for keyword in node.keywords}
            for key in ('type', 'constructor'):
                kind = getattr(values.pop(key, None), 'value', '')
                if kind.startswith('mmfaseg.'):
                    arguments = set(values) if key == 'type' else set()
                    yield kind.removeprefix('mmfaseg.'), arguments


def test_reference_has_a_valid_example_of_each_registered_class():
    registered = _registered()
    examples = list(_example_dicts())
    assert {name for name, _ in examples} == set(registered)
    for name, arguments in examples:
        parameters = inspect.signature(registered[name]).parameters
        if any(x.kind is x.VAR_KEYWORD for x in parameters.values()):
            continue
        assert arguments <= set(parameters), name


def test_navigation_of_the_site_lists_all_pages():
    text = (ROOT / 'mkdocs.yml').read_text()
    listed = re.findall(r'^ +- (\S+\.md)$', text, re.MULTILINE)
    pages = {
        str(path.relative_to(ROOT / 'docs'))
        for path in (ROOT / 'docs').rglob('*.md')
    }
    assert pages <= set(listed)


def _environment():
    """Returns variables that select this Python and this checkout."""
    programs = Path(sys.executable).parent
    return {
        **os.environ,
        'PATH': f'{programs}{os.pathsep}{os.environ["PATH"]}',
        'PYTHONPATH': str(ROOT),
        # one rounding: the model is almost untrained and full of near ties
        'OMP_NUM_THREADS': '1',
    }


TUTORIAL = ROOT / 'docs/custom_data.md'
SHORTER = {'range(200)': 'range(24)', '--iterations 500': '--iterations 4'}


@pytest.mark.slow
def test_tutorial_code_blocks_run(tmp_path):
    """In order, in one folder, with fewer images and iterations."""
    text = TUTORIAL.read_text()
    for long, short in SHORTER.items():
        assert text.count(long) == 1
        text = text.replace(long, short)
    blocks = re.findall(
        r'^```(\w+)\n(.*?)^```', text, re.MULTILINE | re.DOTALL
    )
    assert len(blocks) >= 8
    (tmp_path / 'tools').symlink_to(ROOT / 'tools')
    environment = _environment()
    for kind, block in blocks:
        if block.startswith('custom_hooks'):
            with (tmp_path / 'mine.py').open('a') as file:
                file.write(block)
            continue
        if block.startswith('channels, color_type = 4'):
            config = tmp_path / 'four_channels.py'
            config.write_text((tmp_path / 'mine.py').read_text() + block)
            cfg = Config.fromfile(config)
            assert input_channels(cfg.model) == 4
            assert cfg.test_dataloader.dataset.pipeline[0] == dict(
                type='LoadImageFromFile', color_type='unchanged'
            )
            continue
        program = dict(bash=['bash', '-euc'], python=['python', '-c'])[kind]
        done = subprocess.run(
            [*program, block],
            cwd=tmp_path,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f'{block}\n{done.stdout}'
    assert len(list((tmp_path / 'found/labels').glob('*.png'))) == 24
    for name in ('classes.png', 'mine.onnx', 'focus.html'):
        assert (tmp_path / name).stat().st_size > 10_000
    runs = tmp_path / 'work_dirs/mine'
    assert list(runs.glob('*/vis_data/events.*'))
    assert list(runs.glob('*/vis_data/vis_image/focus_0_*.png'))
    (scalars,) = runs.glob('*/vis_data/scalars.json')
    assert 'val_loss' in scalars.read_text()


SHORT_RUN = (
    'python tools/train.py gated_query.py --cfg-options randomness.seed=0 '
    'train_cfg.max_iters=4 train_cfg.val_interval=4 '
    'default_hooks.checkpoint.interval=4 train_dataloader.batch_size=2 '
    'val_dataloader.dataset.length=2'
)


@pytest.mark.slow
def test_custom_part_trains_and_can_be_explored(tmp_path):
    """The files and commands of docs/custom_parts.md, 4 iterations."""
    text = (ROOT / 'docs/custom_parts.md').read_text()
    blocks = re.findall(r'^```\w+\n(.*?)^```', text, re.MULTILINE | re.DOTALL)
    part, config, commands = blocks
    (tmp_path / 'my_query.py').write_text(part)
    (tmp_path / 'gated_query.py').write_text(config)
    (tmp_path / 'tools').symlink_to(ROOT / 'tools')
    image = np.random.default_rng(0).integers(0, 256, (96, 128, 3), np.uint8)
    Image.fromarray(image).save(tmp_path / 'image.png')
    long = 'python tools/train.py gated_query.py'
    path = 'PYTHONPATH=.'
    assert commands.count(long) == commands.count(path) == 1
    commands = commands.replace(long, SHORT_RUN)
    commands = commands.replace(path, f'{path}:"$PYTHONPATH"')
    done = subprocess.run(
        ['bash', '-euc', commands],
        cwd=tmp_path,
        env=_environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    assert (tmp_path / 'focus.html').stat().st_size > 10_000
    state = torch.load(
        tmp_path / 'work_dirs/gated_query/iter_4.pth', weights_only=True
    )
    name = 'decode_head.transformer_decoder.positional_query.gate'
    assert state['state_dict'][name] != 0.2, 'the gate was not trained'
