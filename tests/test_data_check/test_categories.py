"""Class names of detectors against the categories of COCO files."""

import json

import pytest
from mmengine.config import Config

from mmfaseg.data_check import check_categories
from mmfaseg.utils.command_line import check_data
from mmfaseg.utils.diagnostics import Diagnostics

NAMES = ('cat', 'dog', 'bird')


@pytest.fixture
def diagnose(tmp_path):
    def write_and_check(classes, content=None):
        if content is None:
            categories = [dict(id=i, name=x) for i, x in enumerate(NAMES)]
            content = dict(images=[], annotations=[], categories=categories)
        (tmp_path / 'coco.json').write_text(json.dumps(content))
        cfg = make_config(tmp_path, classes)
        diagnostics = Diagnostics()
        check_categories(cfg, diagnostics)
        return diagnostics.list()

    return write_and_check


def make_config(folder, classes, file='coco.json'):
    dataset = dict(
        type='CocoDataset',
        data_root=str(folder),
        ann_file=file,
        metainfo=dict(classes=classes),
    )
    return Config(
        dict(
            default_scope='mmdet',
            model=dict(type='MaskFormer'),
            train_dataloader=dict(
                dataset=dict(type='RepeatDataset', times=2, dataset=dataset)
            ),
            val_dataloader=dict(dataset=dataset),
        )
    )


@pytest.mark.parametrize('classes', [NAMES, ('cat', 'bird'), ('dog',)])
def test_categories_in_the_order_of_the_file_are_valid(classes, diagnose):
    assert diagnose(classes) == []


def test_classes_that_match_no_category_are_an_error(diagnose):
    (found,) = diagnose(('Cat', 'Dog'))
    assert found.is_error
    assert found.where == 'train_dataloader.dataset.dataset'
    assert (
        "no category has the name of one of the 2 classes, such as 'Cat'"
        in (found.problem)
    )
    assert "in their order: 'cat', 'dog', 'bird'" in found.remedy


def test_some_classes_without_a_category_are_a_warning(diagnose):
    (found,) = diagnose(('cat', 'fish'))
    assert not found.is_error
    assert found.problem == "1 of 2 classes have no category: 'fish'"


@pytest.mark.parametrize(
    ('classes', 'labeled', 'names'),
    [
        (('dog', 'cat'), ['cat', 'dog'], ['dog', 'cat']),
        (('cat', 'fish', 'bird'), ['cat', 'bird'], ['cat', 'fish']),
    ],
)
def test_categories_with_the_names_of_others_are_an_error(
    classes, labeled, names, diagnose
):
    """mmdet labels the categories 0, 1, ... in the order of the file."""
    (found,) = diagnose(classes)
    assert found.is_error
    assert f'{labeled}, with the names {names}' in found.problem


def test_classes_may_be_a_file(tmp_path, diagnose):
    path = tmp_path / 'classes.txt'
    path.write_text('cat\ndog\nbird\n')
    assert diagnose(str(path)) == []


def test_datasets_that_sort_the_categories_are_not_checked(tmp_path):
    cfg = make_config(tmp_path, ('dog', 'cat'), 'missing.json')
    for loader in (cfg.train_dataloader.dataset, cfg.val_dataloader):
        loader.dataset.type = 'Objects365V1Dataset'
    diagnostics = Diagnostics()
    check_categories(cfg, diagnostics)
    assert diagnostics.list() == []


def test_files_of_another_format_are_not_checked(diagnose):
    assert diagnose(NAMES, content=[1, 2]) == []


def test_training_a_detector_checks_the_categories(tmp_path):
    cfg = make_config(tmp_path, NAMES, 'missing.json')
    with pytest.raises(
        SystemExit, match='annotations cannot be read'
    ) as error:
        check_data(cfg)
    assert str(error.value).endswith(
        'pass --no-check to run without this check'
    )
