"""From two folders to a config that trains."""

import numpy as np
import pytest
from mmengine.config import Config
from mmengine.registry import DATASETS, init_default_scope
from PIL import Image

from mmfaseg.data_check import check_dataset, create_dataset
from mmfaseg.data_check.image_pairs import find_pairs
from mmfaseg.utils.run_options import use_test_time_augmentation

H, W = 64, 96
MASK = (np.arange(H * W).reshape(H, W) // W % 3).astype(np.uint8)


def write(folder, names, image=None):
    rng = np.random.default_rng(len(names))
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        content = image
        if content is None:
            content = rng.integers(0, 256, (H, W, 3), np.uint8)
        Image.fromarray(content).save(path)


@pytest.fixture
def folders(tmp_path):
    """Writes images a.jpg to e.jpg and their masks."""

    def write_folders(mask=MASK, suffix='.png', stems='abcde'):
        write(tmp_path / 'img', [f'{x}.jpg' for x in stems])
        write(tmp_path / 'ann', [f'{x}{suffix}' for x in stems], mask)
        return tmp_path / 'img', tmp_path / 'ann'

    return write_folders


@pytest.fixture
def create(tmp_path):
    """Calls ``create_dataset`` and returns the path of the config."""

    def call(folders, classes='abc', **options):
        path = tmp_path / 'config.py'
        create_dataset(*folders, path, tmp_path / 'data', classes, **options)
        return path

    return call


def test_masks_of_the_user_are_not_overwritten(folders, tmp_path):
    """The folder for converted masks is that of the original ones."""
    images, masks = folders()
    masks = masks.rename(tmp_path / 'masks')
    before = {x.name: x.read_bytes() for x in masks.iterdir()}
    with pytest.raises(ValueError, match='exists: choose another --out'):
        create_dataset(
            *(images, masks, tmp_path / 'config.py', tmp_path, 'abc'),
            remap={2: 1},
        )
    assert {x.name: x.read_bytes() for x in masks.iterdir()} == before


# pairs


def test_masks_have_the_name_of_their_image(folders):
    pairs = find_pairs(*folders(suffix='_mask.png'))
    assert (pairs.img_suffix, pairs.seg_map_suffix) == ('.jpg', '_mask.png')
    assert sorted(name for name, _, _ in pairs) == list('abcde')
    for _, image, mask in pairs:
        assert image.is_file()
        assert mask.name == f'{image.stem}_mask.png'
    assert pairs.median_size() == (H, W)


def test_hidden_folders_are_skipped(folders):
    images, masks = folders()
    write(images / '.ipynb_checkpoints', ['a-checkpoint.jpg'])
    names = find_pairs(images, masks).names
    assert sorted(names['train'] + names['val']) == list('abcde')


def test_masks_without_an_image_are_counted(folders):
    images, masks = folders()
    write(masks, ['y.png', 'z.png'], MASK)
    assert find_pairs(images, masks).num_unused_masks == 2


def test_share_and_seed_choose_the_splits(folders):
    where = folders()
    first, same = find_pairs(*where, 0.4), find_pairs(*where, 0.4)
    assert [len(x) for x in first.names.values()] == [3, 2]
    assert first.names == same.names
    others = [find_pairs(*where, 0.4, seed).names for seed in range(1, 6)]
    assert any(x != first.names for x in others)


def test_folders_train_and_val_are_the_splits(tmp_path):
    names = ['train/a', 'train/b', 'val/c', 'test/d']
    write(tmp_path / 'img', [f'{x}.png' for x in names])
    # other folders need no masks
    write(tmp_path / 'ann', [f'{x}.png' for x in names[:3]], MASK)
    pairs = find_pairs(tmp_path / 'img', tmp_path / 'ann', 0.9)
    assert pairs.names == {'train': ['train/a', 'train/b'], 'val': ['val/c']}


@pytest.mark.parametrize(
    ('stems', 'suffix'),
    [(['1', '10', '2'], '.png'), (['f_1', 'f_1_2', 'f_3'], '_mask.png')],
)
def test_names_with_a_common_prefix(folders, stems, suffix):
    where = folders(stems=stems, suffix=suffix)
    assert find_pairs(*where, 0.4).seg_map_suffix == suffix


def test_image_without_mask_raises(folders):
    images, masks = folders()
    (masks / 'c.png').unlink()
    with pytest.raises(ValueError, match=r'img/c has no mask: .*c\.png'):
        find_pairs(images, masks)
    for mask in masks.iterdir():
        mask.rename(masks / f'mask_{mask.name}')
    with pytest.raises(ValueError, match=r'img/a has no mask: .*ann/a\.png'):
        find_pairs(images, masks)


def test_image_with_two_masks_raises(folders):
    images, masks = folders(suffix='_1.png')
    write(masks, ['c_2.png'], MASK)
    assert find_pairs(images, masks).seg_map_suffix == '_1.png'
    write(masks, [f'{x}_2.png' for x in 'abde'], MASK)
    with pytest.raises(ValueError, match=r"a has 2 masks .*'_2\.png'"):
        find_pairs(images, masks)


def test_invalid_folders_raise(folders, tmp_path):
    images, masks = folders()
    with pytest.raises(ValueError, match='missing is not a folder'):
        find_pairs(masks, tmp_path / 'missing')
    (tmp_path / 'empty').mkdir()
    with pytest.raises(ValueError, match='empty contains no images'):
        find_pairs(masks, tmp_path / 'empty')
    with pytest.raises(ValueError, match=r'0\.05 of 5 images is 0'):
        find_pairs(images, masks, 0.05)
    write(images, ['f.png'])
    with pytest.raises(ValueError, match=r"suffixes \['\.jpg', '\.png'\]"):
        find_pairs(images, masks)


# configs


def test_config_has_no_diagnostics(folders, create):
    cfg = Config.fromfile(create(folders()))
    assert cfg.model.decode_head.num_classes == 3
    assert cfg.crop_size == (64, 64)
    report = check_dataset(cfg)
    assert list(report.diagnostics) == []
    assert report.statistics['train'].image_counts.tolist() == [4, 4, 4]


def test_test_time_augmentation_loads_scaled_and_flipped_images(
    folders, create
):
    cfg = Config.fromfile(create(folders()))
    use_test_time_augmentation(cfg)
    assert cfg.model.type == 'mmfaseg.MaskClassificationTTA'
    init_default_scope(cfg.default_scope)
    item = DATASETS.build(cfg.test_dataloader.dataset)[0]
    sizes = [tuple(x.shape[1:]) for x in item['inputs']]
    assert len(sizes) == 6 * 2
    assert set(sizes[:2]) == {(H // 2, W // 2)}
    assert set(sizes[-2:]) == {(H * 7 // 4, W * 7 // 4)}
    flips = [x.metainfo['flip'] for x in item['data_samples']]
    assert flips == [False, True] * 6


@pytest.mark.parametrize(
    ('iterations', 'interval', 'warmup'),
    [(30, 30, 3), (300, 200, 30), (20000, 1000, 30)],
)
def test_iterations_determine_validation_and_warmup(
    folders, create, iterations, interval, warmup
):
    cfg = Config.fromfile(create(folders(), iterations=iterations))
    assert cfg.train_cfg.val_interval == interval
    assert cfg.default_hooks.checkpoint.interval == interval
    assert [x.end for x in cfg.param_scheduler] == [warmup, iterations]


@pytest.mark.parametrize(
    ('model', 'backbone', 'rate', 'factor'),
    [
        ('small', 'ResNet', 3e-3, 1.0),
        ('efficientnet-lite0', 'mmfaseg.EfficientNetLite', 1e-3, 0.2),
        ('r50', 'ResNet', 1e-4, 0.1),
    ],
)
def test_model_selects_backbone_and_learning_rates(
    folders, create, model, backbone, rate, factor
):
    cfg = Config.fromfile(create(folders(), model=model))
    assert cfg.model.backbone.type == backbone
    assert cfg.optim_wrapper.optimizer.lr == rate
    factors = cfg.optim_wrapper.paramwise_cfg.custom_keys
    assert factors.backbone.lr_mult == factor


def test_masks_of_0_and_255_are_remapped(folders, create, tmp_path):
    where = folders(mask=np.where(MASK == 1, 255, 0).astype(np.uint8))
    with pytest.raises(ValueError, match='use --remap 255=1'):
        create(where, classes='ab')
    assert not (tmp_path / 'config.py').exists()
    path = create(where, classes='ab', remap={255: 1})
    stats = check_dataset(Config.fromfile(path)).statistics['train']
    share = (MASK == 1).mean()
    assert stats.percentages[1] == pytest.approx(100 * share)
    assert stats.num_ignored == 0


def test_colored_masks_are_converted(folders, create):
    palette = np.array([[255, 0, 0], [0, 0, 255], [9, 9, 9]], np.uint8)
    where = folders(mask=palette[MASK])
    with pytest.raises(ValueError, match=r'\.png has 3 channels: .*--col'):
        create(where, classes='ab')
    path = create(where, classes='ab', colors=[(255, 0, 0), (0, 0, 255)])
    stats = check_dataset(Config.fromfile(path)).statistics['train']
    counts = np.bincount(MASK.ravel())
    assert stats.pixel_counts.tolist() == [4 * counts[0], 4 * counts[1]]
    assert stats.num_ignored == 4 * counts[2]


def test_invalid_options_raise(folders, create, tmp_path):
    where = folders()
    for options, message in (
        (dict(remap={2: 7}), r'labels \[7\], for example .*\.png'),
        (dict(remap={2: 300, 0: 255}), r'labels \[300\]'),
        (dict(classes='aba'), 'names .* are not unique'),
        (dict(iterations=0), 'must be positive, got 0 and 8'),
        (dict(colors=[(255, 0, 0)]), '1 --colors for 3 classes'),
        (dict(classes='a'), r"at least two classes .*\['a'\]"),
        (dict(model='r34'), "model must be one of .* got 'r34'"),
    ):
        with pytest.raises(ValueError, match=message):
            create(where, **options)
    assert not (tmp_path / 'config.py').exists()
    assert not (tmp_path / 'data').exists()


def test_existing_files_are_not_overwritten(folders, create, tmp_path):
    where = folders()
    for name in ('config.py', 'data/splits'):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text('mine')
        with pytest.raises(ValueError, match=f'{name} already exists'):
            create(where)
        assert path.read_text() == 'mine'
        path.unlink()


def test_tool_works_with_symbolic_links_and_relative_paths(
    folders, root, run_tool, tmp_path, monkeypatch
):
    """Names contain blanks and quotes; the config may be moved."""
    folders()
    (tmp_path / "it's here" / 'deep').mkdir(parents=True)
    (tmp_path / 'link').symlink_to(tmp_path / "it's here" / 'deep')
    monkeypatch.chdir(tmp_path)
    status, output = run_tool(
        'new_dataset.py',
        *('img', 'ann', 'link/my config.py', '--out', "it's data"),
        *('--classes', "it's", 'b', 'c', '--remap', '1=0', '0=1'),
    )
    assert status == 0
    assert 'train: 4 images' in output
    assert output.rstrip().endswith("'link/my config.py'")
    monkeypatch.chdir(root)
    path = tmp_path / 'link' / 'my config.py'
    assert list(check_dataset(Config.fromfile(path)).diagnostics) == []
    path = path.rename(tmp_path / 'moved.py')
    assert list(check_dataset(Config.fromfile(path)).diagnostics) == []


def test_tool_rejects_invalid_options(run_tool, tmp_path):
    command = ['new_dataset.py', *'ab', tmp_path / 'config.py']
    for options, message in (
        (['--remap', '3'], "'3' is not a pair of labels such as 255=1"),
        (['--colors', 'xyz'], "'xyz' is not a color"),
        ([], 'error: a is not a folder'),
    ):
        status, output = run_tool(*command, '--classes', *'abc', *options)
        assert status != 0
        assert message in f'{status} {output}'


@pytest.mark.slow
def test_config_trains(folders, create, root, run_python, tmp_path):
    options = dict(model='small', iterations=2, batch_size=2)
    path = create(folders(), **options)
    done = run_python(
        root / 'tools/train.py', path, '--work-dir', tmp_path / 'out'
    )
    assert 'mIoU' in done.stdout
    assert (tmp_path / 'out/iter_2.pth').is_file()
