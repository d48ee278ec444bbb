"""Problems are planted in a copy of a valid dataset."""

import inspect
import shutil
from pathlib import Path

import numpy as np
import pytest
from mmengine.config import Config
from mmengine.registry import DATASETS, init_default_scope
from PIL import Image

from mmfaseg.data_check import check_dataset, draw_histogram

ROOT = Path(__file__).parents[2]
CLASSES = ('sky', 'road', 'car')
PALETTE = [[10, 20, 30], [40, 50, 60], [70, 80, 90]]
PIPELINE = [dict(type='LoadImageFromFile'), dict(type='LoadAnnotations')]
ROTATED = 'an image is rotated by its EXIF orientation, but its mask is not'
UNREADABLE = 'an image or its mask cannot be read'
H, W = 24, 36


@pytest.fixture(scope='module')
def valid_data(tmp_path_factory):
    """Images with masks of 0, 1, 2 and some 255."""
    root = tmp_path_factory.mktemp('valid')
    rng = np.random.default_rng(0)
    for split, count in (('train', 3), ('val', 2)):
        for kind in ('img', 'ann'):
            (root / kind / split).mkdir(parents=True)
        for n in range(count):
            image = rng.integers(0, 256, (H, W, 3), np.uint8)
            Image.fromarray(image).save(root / f'img/{split}/{n}.png')
            mask = np.arange(H * W).reshape(H, W).astype(np.uint8) % 3
            mask[:3] = 255
            Image.fromarray(mask).save(root / f'ann/{split}/{n}.png')
    return root


@pytest.fixture
def data(valid_data, tmp_path):
    return shutil.copytree(valid_data, tmp_path / 'data')


def make_config(data, **dataset):
    """Config of the valid dataset; both splits get ``dataset``."""

    def loader(split):
        settings = dict(
            type='BaseSegDataset',
            data_root=str(data),
            data_prefix=dict(
                img_path=f'img/{split}', seg_map_path=f'ann/{split}'
            ),
            img_suffix='.png',
            metainfo=dict(classes=CLASSES, palette=PALETTE),
            pipeline=PIPELINE,
        )
        return dict(dataset=settings | dataset)

    return Config(
        dict(
            default_scope='mmseg',
            model=dict(
                data_preprocessor=dict(seg_pad_val=255),
                decode_head=dict(num_classes=3, ignore_index=255),
            ),
            train_dataloader=loader('train'),
            val_dataloader=loader('val'),
            test_dataloader=loader('val'),
        )
    )


def make_binary_config(data):
    metainfo = dict(classes=('back', 'cell'), palette=PALETTE[:2])
    cfg = make_config(data, metainfo=metainfo)
    cfg.model.decode_head.num_classes = 2
    return cfg


def change_mask(data, change, split='train', number=0):
    path = data / f'ann/{split}/{number}.png'
    changed = change(np.asarray(Image.open(path)).copy())
    Image.fromarray(changed).save(path)


def change_all_masks(data, change):
    for split, count in (('train', 3), ('val', 2)):
        for number in range(count):
            change_mask(data, change, split, number)


def diagnose(cfg, *splits, limit=None):
    return check_dataset(cfg, splits or ('train', 'val', 'test'), limit)


def diagnose_one(cfg, *splits, is_error=True, limit=None):
    """Returns the only diagnostic."""
    (diagnostic,) = diagnose(cfg, *splits, limit=limit).diagnostics
    assert diagnostic.is_error == is_error
    return diagnostic


def test_valid_dataset_has_no_diagnostics(data):
    report = check_dataset(make_config(data))
    assert list(report.diagnostics) == []
    assert list(report.splits) == ['train', 'val']  # test is val
    stats = report.statistics['train']
    assert (stats.num_images, stats.num_ignored) == (3, 3 * 3 * W)
    assert stats.pixel_counts.sum() == 3 * (H - 3) * W
    assert stats.image_counts.tolist() == [3, 3, 3]
    assert stats.percentages.sum() == pytest.approx(100)


# files


def test_wrong_paths_and_suffixes(data):
    dataset = 'set train_dataloader.dataset'
    for settings, problem, remedy in (
        (
            dict(img_suffix='.jpg'),
            'no image was found',
            f"contains 3 .png: {dataset}.img_suffix='.png'",
        ),
        (
            dict(seg_map_suffix='_mask.png'),
            'the mask does not exist',
            f'contains 3 .png: {dataset}.seg_map_suffix',
        ),
        (
            dict(data_root='nowhere'),
            'the dataset cannot be built',
            f'{dataset}.data_root',
        ),
        (
            dict(data_prefix=dict(img_path='x')),
            'the dataset cannot be built',
            f'{dataset}.data_prefix.img_path',
        ),
    ):
        first, *_ = diagnose(make_config(data, **settings)).errors
        assert first.problem.startswith(problem), settings
        assert remedy in first.remedy
        assert first.where == 'train'


def test_files_without_suffix(data):
    for path in (data / 'img').rglob('*.png'):
        path.rename(path.with_suffix(''))
    first, *_ = diagnose(make_config(data)).errors
    assert first.problem.startswith('no image was found')
    assert 'contains 3 without suffix: add the suffix' in first.remedy


def test_missing_mask(data):
    (data / 'ann/train/1.png').unlink()
    diagnostic = diagnose_one(make_config(data))
    assert diagnostic.problem == 'the mask does not exist'
    assert diagnostic.examples == (str(data / 'ann/train/1.png'),)


def test_invalid_files(data):
    """Truncated, colored and wrongly sized files."""

    def truncate(path):
        path.write_bytes(path.read_bytes()[:60])

    def change(function):
        return lambda path: change_mask(data, function)

    for kind, damage, message in (
        ('img', truncate, 'img/train/0.png'),
        ('ann', truncate, 'ann/train/0.png cannot be read'),
        ('ann', change(lambda x: np.stack([x] * 3, -1)), 'tools/new_dataset'),
        ('ann', change(lambda x: x[:-1]), r'(23, 36), but its image'),
    ):
        path = data / kind / 'train/0.png'
        content = path.read_bytes()
        damage(path)
        diagnostic = diagnose_one(make_config(data))
        assert (diagnostic.where, diagnostic.problem) == ('train', UNREADABLE)
        assert message in diagnostic.examples[0]
        path.write_bytes(content)


def test_exif_rotated_images(data):
    """mmcv rotates the image, but not the mask."""
    image = Image.open(data / 'img/train/0.png')
    exif = Image.Exif()
    exif[0x0112] = 3  # by 180 degrees
    image.save(data / 'img/train/0.png', exif=exif)
    diagnostic = diagnose_one(make_config(data), is_error=False)
    assert diagnostic.problem == ROTATED
    exif[0x0112] = 6  # by 90 degrees
    for path in (data / 'img/train').iterdir():
        image.save(path.with_suffix('.jpg'), exif=exif)
        path.unlink()
    cfg = make_config(data)
    cfg.train_dataloader.dataset.img_suffix = '.jpg'
    diagnostic = diagnose_one(cfg)
    assert (diagnostic.problem, diagnostic.count) == (UNREADABLE, 3)
    color_type = 'color_ignore_orientation'
    assert f'color_type={color_type!r}' in diagnostic.examples[0]
    cfg.train_dataloader.dataset.pipeline[0]['color_type'] = color_type
    assert list(diagnose(cfg).diagnostics) == []


def test_validation_batches_need_images_of_one_size(data):
    for folder, shape in (('img', (2 * H, W, 3)), ('ann', (2 * H, W))):
        (path,) = (data / f'{folder}/val').glob('0.*')
        labels = np.arange(2 * H)[:, None] % 3
        pixels = np.full(shape, 99) if folder == 'img' else labels + 0 * W
        pixels = np.broadcast_to(pixels, shape).astype(np.uint8)
        Image.fromarray(pixels).save(path)
    cfg = make_config(data)
    cfg.val_dataloader.batch_size = 1
    assert list(diagnose(cfg, 'val').diagnostics) == []
    cfg.val_dataloader.batch_size = 2
    diagnostic = diagnose_one(cfg, 'val')
    assert 'batches of 2 images need equal sizes' in diagnostic.problem
    assert 'set val_dataloader.batch_size=1' in diagnostic.remedy
    cfg.val_dataloader.dataset.pipeline.insert(
        1, dict(type='Resize', scale=(W, H))
    )
    assert list(diagnose(cfg, 'val').diagnostics) == []


def test_nearly_black_images(data):
    path = data / 'img/train/1.png'
    rng = np.random.default_rng(0)
    for high, dtype, maximum in ((4096, np.uint16, 15), (2, np.uint8, 1)):
        Image.fromarray(rng.integers(0, high, (H, W), dtype)).save(path)
        diagnostic = diagnose_one(make_config(data), is_error=False)
        assert diagnostic.problem == 'an image is nearly black'
        assert diagnostic.examples == (f'{path}: maximum {maximum} of 255',)
        assert '12 bits' in diagnostic.remedy


@pytest.mark.parametrize(
    ('color_type', 'found'), [('grayscale', 1), ('unchanged', 4)]
)
def test_channels_that_the_model_does_not_take(data, color_type, found):
    path = data / 'img/train/0.png'
    Image.open(path).convert('RGBA').save(path)
    assert list(diagnose(make_config(data)).diagnostics) == []  # alpha dropped
    loading = dict(PIPELINE[0], color_type=color_type)
    cfg = make_config(data, pipeline=[loading, PIPELINE[1]])
    report = diagnose(cfg)
    assert not report.errors
    assert {x.problem for x in report.diagnostics} == {
        f'the model takes 3 channels, but an image is loaded with {found}'
    }
    cfg.model.data_preprocessor.mean = [0] * found
    cfg.model.backbone = dict(in_channels=found)
    problems = [x.problem for x in diagnose(cfg).diagnostics]
    assert not any(x.endswith(f'with {found}') for x in problems)


def test_image_in_two_splits(data):
    problem = 'an image is also in train'
    shutil.copy(data / 'img/train/1.png', data / 'img/val/0.png')
    diagnostic = diagnose_one(make_config(data))
    assert (diagnostic.where, diagnostic.problem) == ('val', problem)
    assert list(diagnose(make_config(data), limit=8).diagnostics) == []
    cfg = make_config(data)
    cfg.val_dataloader = cfg.train_dataloader.copy()
    cfg.val_dataloader.dataset = dict(cfg.val_dataloader.dataset, indices=2)
    cfg.test_dataloader = None
    diagnostic = diagnose_one(cfg, is_error=False, limit=8)
    assert (diagnostic.problem, diagnostic.count) == (problem, 2)


# labels


def test_labels_outside_the_classes(data):
    for old, new, labels, remedy in (
        (2, 7, [7], '--remap 7=255'),
        (1, 8, [7, 8], 'num_classes'),
    ):
        change_mask(
            data, lambda x, o=old, n=new: np.where(x == o, n, x).astype('u1')
        )
        diagnostic = diagnose_one(make_config(data))
        assert diagnostic.problem == 'labels are not in the 3 classes'
        assert diagnostic.examples[0].endswith(f'0.png: {labels}')
        assert remedy in diagnostic.remedy


def test_unlabeled_pixels_that_are_not_ignored(data):
    change_all_masks(data, lambda mask: np.where(mask == 255, 3, mask))
    found = diagnose(make_config(data)).diagnostics
    assert len(found) == 2
    assert 'if 3 marks unlabeled pixels, replace it by 255' in found[0].remedy
    assert '--remap 3=255' in found[0].remedy
    assert 'reduce_zero_label=True' in found[0].remedy  # if 0 is unlabeled


def test_labels_that_start_at_one(data):
    change_all_masks(data, lambda mask: np.where(mask == 255, mask, mask + 1))
    remedy = diagnose(make_config(data)).diagnostics[0].remedy
    assert 'train_dataloader.dataset.reduce_zero_label=True' in remedy
    cfg = make_config(data, reduce_zero_label=True)
    assert list(diagnose(cfg).diagnostics) == []
    # the remedy names labels as they are stored
    change_all_masks(data, lambda mask: np.where(mask == 255, 4, mask))
    assert '--remap 4=255' in diagnose(cfg).errors[0].remedy


def test_contradicting_reduce_zero_label(data):
    cfg = make_config(data, reduce_zero_label=True)
    diagnostic = diagnose_one(cfg, 'train', is_error=False)
    assert 'if label 0 is a class, set reduce_zero_label=False' in (
        diagnostic.remedy
    )
    cfg.train_dataloader.dataset.reduce_zero_label = False
    assert 'reduce_zero_label is True, but False in train' in {
        x.problem for x in diagnose(cfg).errors
    }
    pipeline = [PIPELINE[0], dict(PIPELINE[1], reduce_zero_label=True)]
    diagnostic = diagnose_one(make_config(data, pipeline=pipeline), 'train')
    assert diagnostic.problem == (
        'reduce_zero_label is False in the dataset and True in LoadAnnotations'
    )


def test_binary_masks_of_0_and_255(data):
    change_all_masks(
        data, lambda mask: np.where(mask == 1, 255, 0).astype(np.uint8)
    )
    found = diagnose(make_binary_config(data)).diagnostics
    assert [x.is_error for x in found] == [True, False, False]
    assert "'cell' never occurs" in found[0].problem
    assert '--remap 255=1' in found[0].remedy


def test_positive_class_may_be_missing_in_one_split(data):
    change_all_masks(data, lambda mask: np.where(mask == 2, 0, mask))
    for number in range(2):
        change_mask(
            data, lambda mask: np.where(mask == 1, 0, mask), 'val', number
        )
    diagnostic = diagnose_one(make_binary_config(data), is_error=False)
    assert diagnostic.problem == 'never occur in 2 images: cell'


def test_palette_masks_require_pillow_backend(data):
    for path in (data / 'ann/train').iterdir():
        mask = Image.open(path)
        mask.putpalette(list(range(256)) * 3)
        mask.save(path)
    assert list(diagnose(make_config(data)).diagnostics) == []
    pipeline = [PIPELINE[0], dict(PIPELINE[1], imdecode_backend='cv2')]
    diagnostic = diagnose_one(make_config(data, pipeline=pipeline), 'train')
    assert "imdecode_backend='pillow'" in diagnostic.examples[0]


def test_ignored_label_that_is_a_class(data):
    cfg = make_config(data, ignore_index=1)
    cfg.model.decode_head.ignore_index = 1
    change_all_masks(data, lambda mask: np.where(mask == 255, 0, mask))
    stats = diagnose(cfg).statistics['train']
    assert stats.num_ignored == 753  # a third of the labeled pixels
    assert stats.pixel_counts[1] == 0


def test_more_than_255_classes(data):
    metainfo = dict(classes=[str(i) for i in range(300)])
    masks = np.arange(H * W).reshape(H, W).astype(np.uint16) % 300
    for path in data.glob('ann/*/*.png'):
        Image.fromarray(masks).save(path)
    cfg = make_config(data, metainfo=metainfo)
    cfg.model.decode_head.num_classes = 300
    problems = [str(x) for x in diagnose(cfg, 'train').errors]
    assert any(
        'ignore_index=255 is also one of the 300' in x for x in problems
    )
    assert any('takes labels modulo 256' in x for x in problems)
    pipeline = [PIPELINE[0], dict(type='mmfaseg.LoadCheckedAnnotations')]
    cfg = make_config(
        data, metainfo=metainfo, ignore_index=65535, pipeline=pipeline
    )
    cfg.model.decode_head.update(num_classes=300, ignore_index=65535)
    cfg.model.data_preprocessor.seg_pad_val = 65535
    report = diagnose(cfg, 'train')
    assert report.errors == []
    assert report.statistics['train'].pixel_counts[299] > 0


def test_class_that_never_occurs(data):
    change_all_masks(data, lambda mask: np.where(mask == 2, 0, mask))
    report = diagnose(make_config(data))
    assert [x.is_error for x in report.diagnostics] == [False, False]
    problem = 'never occur in 3 images: car'
    assert report.diagnostics[0].problem == problem
    (axes,) = draw_histogram(report).axes
    counts = [x.get_text() for x in axes.texts]
    assert counts == ['3', '3', 'never', '2', '2', 'never']
    widths = [x.get_width() for x in axes.patches[:3]]
    assert sum(widths) == pytest.approx(100)


def test_mostly_ignored_pixels(data):
    def hide(mask):
        mask[: H // 2 + 2] = 255
        return mask

    change_all_masks(data, hide)
    found = diagnose(make_config(data)).diagnostics
    assert [x.problem for x in found] == ['58% of the pixels are ignored'] * 2


# settings


def test_wrong_num_classes(data):
    cfg = make_config(data)
    cfg.model.decode_head.num_classes = 2
    cfg.model.auxiliary_head = [
        dict(type='FCNHead', num_classes=3),
        dict(type='FCNHead', num_classes=4),
        dict(type='STDCHead', num_classes=2),
    ]
    found = diagnose(cfg).diagnostics
    assert [(x.where, x.is_error) for x in found] == [
        ('model.decode_head', True),
        ('model.auxiliary_head.1', True),
        ('model.auxiliary_head.2', False),
    ]
    assert found[0].remedy == 'set model.decode_head.num_classes=3'


def test_wrong_number_of_class_weights(data):
    for loss, length, required in (
        ('loss', 2, 3),
        ('loss_decode', 2, 3),
        ('loss_decode', 4, 3),
        ('loss_cls', 3, 4),
    ):
        cfg = make_config(data)
        cfg.model.decode_head[loss] = dict(class_weight=[1.0] * length)
        diagnostic = diagnose_one(cfg)
        assert diagnostic.where == f'model.decode_head.{loss}'
        assert f'give it {required}' in diagnostic.remedy
        cfg.model.decode_head[loss] = dict(class_weight=[1.0] * required)
        assert list(diagnose(cfg).diagnostics) == []


def test_contradicting_ignored_labels(data):
    cfg = make_config(data)
    cfg.model.decode_head.ignore_index = 0
    assert 'ignore_index=0' in diagnose_one(cfg).problem
    cfg = make_config(data)
    cfg.model.data_preprocessor.seg_pad_val = 0
    assert 'padding would count as class 0' in diagnose_one(cfg).problem


def test_crops_larger_than_the_padded_size(data):
    cfg = make_config(data)
    cfg.model.data_preprocessor.size = (64, 64)
    cfg.train_dataloader.dataset.pipeline.insert(
        -1, dict(type='RandomCrop', crop_size=(64, 96))
    )
    # valid if all images are large enough
    diagnostic = diagnose_one(cfg, is_error=False)
    assert diagnostic.remedy == 'set model.data_preprocessor.size=(64, 96)'


def test_repeated_class_names(data):
    metainfo = dict(classes=('sky', 'car', 'sky'), palette=PALETTE)
    found = diagnose(make_config(data, metainfo=metainfo)).diagnostics
    assert "['sky'] occur more than once" in found[0].problem


def test_wrong_palettes(data):
    for palette, problem, is_error in (
        ([*PALETTE, [1, 2, 3]], 'palette does not match classes', True),
        ([*PALETTE[:2], [1, 2, 300]], '(1, 2, 300) is not a color', True),
        (
            [*PALETTE[:2], PALETTE[0]],
            "'sky' and 'car' have the color (10, 20, 30)",
            False,
        ),
    ):
        metainfo = dict(classes=CLASSES, palette=palette)
        found = diagnose(make_config(data, metainfo=metainfo)).diagnostics
        assert problem in found[0].problem
        assert found[0].is_error == is_error


def test_splits_with_different_classes(data):
    cfg = make_config(data)
    metainfo = dict(classes=('sky', 'car', 'road'), palette=PALETTE)
    cfg.val_dataloader.dataset.metainfo = metainfo
    cfg.test_dataloader = None
    problem = 'the classes differ from those of train'
    assert problem in diagnose_one(cfg).problem
    part = cfg.train_dataloader.dataset
    cfg.train_dataloader.dataset = dict(
        type='ConcatDataset', datasets=[part, part]
    )
    assert problem in diagnose_one(cfg).problem


def test_detectors_raise():
    with pytest.raises(ValueError, match=r'no model\.decode_head'):
        check_dataset(Config(dict(model=dict(panoptic_head={}))))


# kinds of datasets


def test_concatenated_and_repeated_datasets(data):
    cfg = make_config(data)
    part = cfg.train_dataloader.dataset.to_dict()
    parts = [
        dict(type='RepeatDataset', times=2, dataset=part),
        dict(part, img_suffix='.jpg'),
    ]
    cfg.train_dataloader.dataset = dict(type='ConcatDataset', datasets=parts)
    diagnostic = diagnose_one(cfg)
    assert diagnostic.where == 'train 2'
    key = 'train_dataloader.dataset.datasets.1.img_suffix'
    assert key in diagnostic.remedy
    # parts of one split may share images
    cfg.train_dataloader.dataset.datasets = [part, part]
    assert list(diagnose(cfg).diagnostics) == []


def test_wrappers_are_built(data):
    cfg = make_config(data)
    part = cfg.train_dataloader.dataset.to_dict()
    cfg.train_dataloader.dataset = dict(
        type='ClassBalancedDataset', oversample_thr=0.1, dataset=part
    )
    diagnostic = diagnose_one(cfg)
    problem = 'ClassBalancedDataset cannot be built: NotImplementedError'
    assert problem in diagnostic.problem
    parts = [part, dict(part, metainfo=dict(part['metainfo'], x=1))]
    cfg.train_dataloader.dataset = dict(type='ConcatDataset', datasets=parts)
    problem = 'ConcatDataset cannot be built: ValueError'
    assert problem in diagnose_one(cfg).problem


def test_images_resized_before_their_masks_are_loaded(data):
    """As in mmseg's test pipelines."""
    resize = dict(type='Resize', scale=(72, 48), keep_ratio=True)
    cfg = make_config(data, pipeline=[PIPELINE[0], resize, PIPELINE[1]])
    assert list(diagnose(cfg).diagnostics) == []


def test_masks_of_custom_loaders_are_not_checked(data):
    class LoadColors:
        def __call__(self, results):
            mask = np.asarray(Image.open(results['seg_map_path']))
            return dict(results, gt_seg_map=mask[..., 0])

    change_all_masks(data, lambda mask: np.stack([mask] * 3, -1))
    cfg = make_config(data)
    for split in ('train', 'val', 'test'):
        dataset = cfg[f'{split}_dataloader'].dataset
        dataset.pipeline = [PIPELINE[0], dict(type=LoadColors)]
    assert list(diagnose(cfg).diagnostics) == []


def test_test_split_may_have_no_labels(data):
    cfg = make_config(data)
    cfg.test_dataloader.dataset = dict(
        cfg.test_dataloader.dataset,
        data_prefix=dict(img_path='img/val'),
        pipeline=PIPELINE[:1],
    )
    assert diagnose_one(cfg).problem == 'an image is also in val'
    cfg.val_dataloader.dataset.data_prefix = dict(img_path='img/val')
    problems = {x.problem: x.remedy for x in diagnose(cfg).diagnostics}
    assert problems['the dataset has no folder of masks'] == (
        'set val_dataloader.dataset.data_prefix.seg_map_path'
    )


def write_small_dataset(settings, dataset, split, num_classes):
    """Writes two images in the folders of a dataset of this package."""
    defaults = {
        name: x.default
        for name, x in inspect.signature(dataset).parameters.items()
    }
    at = {**defaults, **settings}
    reduced = at.get('reduce_zero_label') is True
    is_camvid = dataset.__name__ == 'CamVidDataset'
    rng = np.random.default_rng(0)
    mask = rng.integers(0, num_classes, (60, 90)) + reduced
    mask[:3] = num_classes if is_camvid else 0 if reduced else 255
    names = [f'{split}_{n}' for n in range(2)]
    for name in names:
        for key, suffix, content in (
            (
                'img_path',
                at.get('img_suffix', '.jpg'),
                rng.integers(0, 256, (60, 90, 3), np.uint8),
            ),
            (
                'seg_map_path',
                at.get('seg_map_suffix', '.png'),
                mask.astype(np.uint8),
            ),
        ):
            folder = Path(at['data_root'], at['data_prefix'][key])
            folder.mkdir(parents=True, exist_ok=True)
            Image.fromarray(content).save(folder / f'{name}{suffix}')
    if at.get('ann_file'):
        path = Path(at['data_root'], at['ann_file'])
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text('\n'.join(names))


def test_datasets_of_the_package_have_no_diagnostics(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    init_default_scope('mmseg')
    checked = set()
    for path in sorted((ROOT / 'configs/faseg').glob('*.py')):
        if 'shapes' in path.stem or 'convnext' in path.stem:
            continue
        cfg = Config.fromfile(path)
        kind = cfg.train_dataloader.dataset.type
        if kind in checked:
            continue
        checked.add(kind)
        dataset = DATASETS.get(kind if '.' in kind else f'mmseg.{kind}')
        for split in ('train', 'val'):
            write_small_dataset(
                cfg[f'{split}_dataloader'].dataset,
                dataset,
                split,
                cfg.model.decode_head.num_classes,
            )
        report = diagnose(cfg, 'train', 'val', limit=8)
        assert [str(x) for x in report.diagnostics] == [], kind
        for stats in report.statistics.values():
            assert (stats.num_images, stats.num_ignored) == (2, 2 * 3 * 90)
    assert len(checked) >= 5


def test_generated_images_have_no_files():
    cfg = Config.fromfile(
        ROOT / 'configs/faseg/faseg_r18_1xb8-demo_shapes-128x128.py'
    )
    report = diagnose(cfg, limit=2)
    assert list(report.diagnostics) == []
    assert report.statistics['train'].num_images == 2


def test_limit_spreads_images_over_the_split(data):
    report = diagnose(make_config(data), limit=2)
    assert report.statistics['train'].num_images == 2
    change_mask(data, lambda mask: mask[:-1], number=2)
    assert diagnose(make_config(data), limit=2).errors


def test_tool_prints_and_exits_with_status(
    data, run_tool, tmp_path, monkeypatch
):
    monkeypatch.setenv('COLUMNS', '200')
    tool = 'analysis_tools/check_dataset.py'
    path, image = tmp_path / 'config.py', tmp_path / 'classes.png'
    cfg = make_config(data)
    cfg.dump(str(path))
    status, output = run_tool(tool, path, '--out', image)
    assert status == 0
    assert '0 errors, 0 warnings' in output
    assert image.stat().st_size > 1000
    cfg.model.decode_head.num_classes = 2
    cfg.dump(str(path))
    status, output = run_tool(tool, path, '--quick')
    assert status == 1
    assert 'error: model.decode_head: num_classes=2' in output
    assert '-> set model.decode_head.num_classes=3' in output
