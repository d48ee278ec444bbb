"""tools/new_dataset.py: from folders to a config that trains."""

import re

import numpy as np
import pytest
from mmengine.config import Config
from PIL import Image

from mmfaseg.data_check import check_dataset
from mmfaseg.datasets.new_dataset import pair_files

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
    """Makes images a to e, and their masks."""

    def make(mask=MASK, image='{}.jpg', end='.png', letters='abcde'):
        write(tmp_path / 'img', [image.format(x) for x in letters])
        write(tmp_path / 'ann', [f'{x}{end}' for x in letters], mask)
        return tmp_path / 'img', tmp_path / 'ann'

    return make


# pairs


def test_masks_have_the_name_of_their_image(folders):
    pairing = pair_files(*folders(end='_mask.png'))
    assert (pairing.img_suffix, pairing.seg_map_suffix) == (
        '.jpg',
        '_mask.png',
    )
    names = [x for names in pairing.names.values() for x in names]
    assert sorted(names) == list('abcde')
    for image, mask in pairing.pairs():
        assert image.is_file()
        assert mask.name == f'{image.stem}_mask.png'


def test_share_and_seed_choose_the_splits(folders):
    where = folders()
    first, again = pair_files(*where, 0.4), pair_files(*where, 0.4)
    assert [len(x) for x in first.names.values()] == [3, 2]
    assert first.names == again.names
    others = [pair_files(*where, 0.4, seed).names for seed in range(1, 6)]
    assert any(x != first.names for x in others)


def test_folders_train_and_val_are_the_splits(tmp_path):
    names = ['train/a', 'train/b', 'val/c']
    write(tmp_path / 'img', [f'{x}.png' for x in names])
    write(tmp_path / 'ann', [f'{x}.png' for x in names], MASK)
    pairing = pair_files(tmp_path / 'img', tmp_path / 'ann', 0.9)
    assert pairing.names == {'train': ['train/a', 'train/b'], 'val': ['val/c']}


def test_longer_name_is_not_a_mask(folders):
    images, masks = folders(letters=['1', '10', '2'])
    assert pair_files(images, masks, 0.4).seg_map_suffix == '.png'


def test_image_without_mask_raises(folders):
    images, masks = folders()
    (masks / 'c.png').unlink()
    with pytest.raises(ValueError, match=r'c\.jpg has no mask: .*c\.png'):
        pair_files(images, masks)


def test_image_with_two_masks_raises(folders):
    images, masks = folders(end='_1.png')
    write(masks, ['c_2.png'], MASK)
    assert pair_files(images, masks).seg_map_suffix == '_1.png'
    write(masks, [f'{x}_2.png' for x in 'abde'], MASK)
    with pytest.raises(ValueError, match=r"a\.jpg has 2 masks .*'_2\.png'"):
        pair_files(images, masks)


def test_names_with_common_prefix(folders):
    images, masks = folders(letters=['f_1', 'f_1_2', 'f_3'], end='_mask.png')
    assert pair_files(images, masks, 0.4).seg_map_suffix == '_mask.png'


def test_a_folder_test_may_be_without_masks(tmp_path):
    names = ['train/a', 'val/c', 'test/d']
    write(tmp_path / 'img', [f'{x}.png' for x in names])
    write(tmp_path / 'ann', [f'{x}.png' for x in names[:2]], MASK)
    pairing = pair_files(tmp_path / 'img', tmp_path / 'ann')
    assert pairing.names == {'train': ['train/a'], 'val': ['val/c']}


def test_mixed_suffixes_raise(folders):
    images, masks = folders()
    write(images, ['f.png'])
    with pytest.raises(ValueError, match=r"end in \['\.jpg', '\.png'\]"):
        pair_files(images, masks)


def test_empty_folders_and_splits_raise(folders, tmp_path):
    where = folders()
    with pytest.raises(ValueError, match='holds no image'):
        pair_files(tmp_path / 'ann', tmp_path / 'nothing')
    with pytest.raises(ValueError, match=r'0\.05 of 5 images are 0'):
        pair_files(*where, 0.05)


# the tool


@pytest.fixture
def call(root, run_python, tmp_path):
    def call(images, masks, *options, check=True, classes='abc'):
        done = run_python(
            root / 'tools/new_dataset.py',
            images,
            masks,
            tmp_path / 'mine.py',
            *('--classes', *classes, '--out', tmp_path / 'data'),
            *options,
            check=check,
        )
        return done, tmp_path / 'mine.py'

    return call


def test_config_has_no_diagnostics(folders, call):
    done, path = call(*folders())
    assert 'train: 4 images' in done.stdout
    assert 'train.py' in done.stdout
    cfg = Config.fromfile(path)
    assert cfg.model.decode_head.num_classes == 3
    assert cfg.crop_size == (64, 64)
    report = check_dataset(cfg)
    assert list(report.diagnostics) == []
    assert report.statistics['train'].num_images == 4
    assert report.statistics['train'].image_counts.tolist() == [4, 4, 4]


@pytest.mark.slow
def test_config_trains(folders, call, root, run_python, tmp_path):
    options = ['--model', 'small', '--iterations', 2, '--batch', 2]
    _, path = call(*folders(), *options)
    done = run_python(
        root / 'tools/train.py', path, '--work-dir', tmp_path / 'out'
    )
    assert 'mIoU' in done.stdout
    assert (tmp_path / 'out/iter_2.pth').is_file()


def test_masks_of_0_and_255_are_remapped(folders, call):
    where = folders(mask=np.where(MASK == 1, 255, 0).astype(np.uint8))
    done, path = call(*where, classes='ab', check=False)
    assert done.returncode == 1
    assert 'then --remap 255=1' in done.stdout
    assert not path.exists()
    _, path = call(*where, '--remap', '255=1', classes='ab')
    assert 'splits' in {x.name for x in (path.parent / 'data').iterdir()}
    stats = check_dataset(Config.fromfile(path)).statistics['train']
    share = (MASK == 1).mean()
    assert stats.pixel_counts[1] / stats.pixel_counts.sum() == pytest.approx(
        share
    )
    assert stats.num_ignored == 0


def test_coloured_masks_are_converted(folders, call):
    palette = np.array([[255, 0, 0], [0, 0, 255], [9, 9, 9]], np.uint8)
    where = folders(mask=palette[MASK])
    done, _ = call(*where, classes='ab', check=False)
    assert 'give the --colours of the classes' in done.stdout
    _, path = call(*where, '--colours', 'ff0000', '#0000ff', classes='ab')
    stats = check_dataset(Config.fromfile(path)).statistics['train']
    counts = np.bincount(MASK.ravel())
    assert stats.pixel_counts.tolist() == [4 * counts[0], 4 * counts[1]]
    assert stats.num_ignored == 4 * counts[2]


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (['--remap', '3'], '--remap takes pairs such as 255=1'),
        (['--remap', '2=7'], 'hold the labels [0, 1, 7]'),
        (['--colours', 'ff0000'], '1 --colours for 3 classes'),
        (['--colours', *'xyz'], '--colours takes six digits'),
    ],
)
def test_invalid_options_raise(folders, call, options, message):
    done, path = call(*folders(), *options, check=False)
    assert done.returncode == 1
    assert re.search(f'error: .*{re.escape(message)}', done.stdout)
    assert not path.exists()


def test_config_works_behind_a_symbolic_link_and_after_a_move(
    folders, root, run_python, tmp_path, monkeypatch
):
    """With blanks and quotes in names, and from any working directory."""
    folders()
    (tmp_path / "it's here" / 'deep').mkdir(parents=True)
    (tmp_path / 'link').symlink_to(tmp_path / "it's here" / 'deep')
    monkeypatch.chdir(tmp_path)
    done = run_python(
        root / 'tools/new_dataset.py',
        *('img', 'ann', 'link/my config.py', '--out', "it's data"),
        *('--classes', "it's", 'b', 'c'),
    )
    assert "'link/my config.py'" in done.stdout
    monkeypatch.chdir(root)
    path = tmp_path / 'link' / 'my config.py'
    assert list(check_dataset(Config.fromfile(path)).diagnostics) == []
    path = path.rename(tmp_path / 'moved.py')
    assert list(check_dataset(Config.fromfile(path)).diagnostics) == []


def test_lists_are_never_overwritten(folders, call, tmp_path):
    (tmp_path / 'data/splits').mkdir(parents=True)
    done, path = call(*folders(), check=False)
    assert 'splits is there already' in done.stdout
    assert not path.exists()


def test_a_config_is_never_overwritten(folders, call, tmp_path):
    (tmp_path / 'mine.py').write_text('precious = 1')
    done, path = call(*folders(), check=False)
    assert 'is there already' in done.stdout
    assert path.read_text() == 'precious = 1'
