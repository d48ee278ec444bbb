"""Configs of this package by name: ``mmfaseg::faseg/CONFIG.py``."""

import re
from pathlib import Path

import mmengine.hub
import pytest
from mmengine.config import Config
from mmengine.registry import MODELS, DefaultScope

import mmfaseg  # noqa: F401  registers the package in mmengine

DEMO = 'faseg/faseg_r18_1xb8-demo_shapes-128x128.py'
DETECTOR = 'faseg_coco/faseg_r18_1xb8-demo_shapes-instance-128x128.py'


def write_child(folder: Path, *bases: str, text: str = '') -> Path:
    path = folder / 'my config.py'
    path.write_text(f'_base_ = {list(bases)}\n{text}')
    return path


# _base_


@pytest.mark.smoke
def test_base_by_name_equals_base_by_path(root, tmp_path):
    """No ``_scope_``: types are looked up in ``default_scope`` as before."""
    found = Config.fromfile(write_child(tmp_path, f'mmfaseg::{DEMO}'))
    expected = Config.fromfile(root / 'configs' / DEMO)
    assert found.to_dict() == expected.to_dict()


def test_bases_by_name_can_be_combined_and_referenced(root, tmp_path):
    names = (
        '_base_/models/faseg_r18_shapes.py',
        '_base_/datasets/shapes-128x128.py',
        '_base_/schedules/schedule_shapes.py',
        '_base_/default_runtime.py',
    )
    text = """
depth = _base_.model.backbone.depth
val_dataloader = _base_.test_dataloader
val_evaluator = {{_base_.test_evaluator}}
"""
    configs = root / 'configs'
    by_path = [f'{configs}/{x}' for x in names]
    path = write_child(tmp_path, *by_path, text=text)
    expected = Config.fromfile(path).to_dict()
    by_name = [f'mmfaseg::{x}' for x in names]
    path = write_child(tmp_path, *by_name, text=text)
    found = Config.fromfile(path).to_dict()
    assert found['depth'] == 18
    assert found == expected


def test_examples_of_the_docs_can_be_loaded(root, tmp_path):
    page = (root / 'docs/config_inheritance.md').read_text()
    blocks = re.findall(r'```python\n(.+?)```', page, re.DOTALL)
    examples = [block for block in blocks if '_base_ =' in block]
    assert len(examples) == 2
    for text in examples:
        path = tmp_path / 'example.py'
        path.write_text(text)
        assert Config.fromfile(path).model.type == 'mmfaseg.MaskEncoderDecoder'


def test_unknown_base_is_named(tmp_path):
    path = write_child(tmp_path, 'mmfaseg::faseg/no_such_config.py')
    with pytest.raises(FileNotFoundError, match=r'faseg/no_such_config\.py'):
        Config.fromfile(path)


def test_bases_of_other_packages_are_resolved_by_mmengine(tmp_path):
    import mmseg

    if not Path(mmseg.__path__[0], '.mim/configs').is_dir():
        pytest.skip('this mmseg does not contain its configs')
    path = write_child(tmp_path, 'mmseg::_base_/models/fcn_unet_s5-d16.py')
    assert Config.fromfile(path).model._scope_ == 'mmseg'


# mmengine.hub


@pytest.mark.smoke
@pytest.mark.parametrize(
    'name', [DEMO, '_base_/models/faseg_r50.py'], ids=['listed', 'base']
)
def test_hub_returns_the_config(name, root):
    found = mmengine.hub.get_config(f'mmfaseg::{name}')
    expected = Config.fromfile(root / 'configs' / name)
    assert found.to_dict() == expected.to_dict()


@pytest.mark.smoke
def test_hub_builds_segmentors_without_weights():
    model = mmengine.hub.get_model(f'mmfaseg::{DEMO}')
    assert type(model).__name__ == 'MaskEncoderDecoder'
    name = 'mask2former/mask2former_r18_1xb8-3k_shapes-128x128.py'
    model = mmengine.hub.get_model(f'mmfaseg::{name}', pretrained=False)
    assert type(model).__name__ == 'EncoderDecoder'


@pytest.mark.smoke
def test_hub_builds_the_detector_that_its_config_describes(root):
    found = mmengine.hub.get_model(f'mmfaseg::{DETECTOR}')
    cfg = Config.fromfile(root / 'configs' / DETECTOR)
    with DefaultScope.overwrite_default_scope('mmdet'):
        expected = MODELS.build(cfg.model)
    assert repr(found) == repr(expected)


def test_hub_raises_for_pretrained_weights():
    with pytest.raises(AssertionError, match='Weights'):
        mmengine.hub.get_config(f'mmfaseg::{DEMO}', pretrained=True)
