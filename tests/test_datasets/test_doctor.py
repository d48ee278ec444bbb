"""The dataset doctor: every trap, seeded into a copy of a good data set."""

import inspect
import shutil
from pathlib import Path

import numpy as np
import pytest
from mmengine.config import Config
from mmengine.registry import DATASETS, init_default_scope
from PIL import Image

from mmfaseg.datasets.doctor import check_dataset, draw_histogram

TURNED = 'an image is turned when it is read, and its mask is not'
ROOT = Path(__file__).parents[2]
CLASSES = ('sky', 'road', 'car')
PALETTE = [[10, 20, 30], [40, 50, 60], [70, 80, 90]]
PIPELINE = [dict(type='LoadImageFromFile'), dict(type='LoadAnnotations')]
H, W = 24, 36


@pytest.fixture(scope='module')
def good(tmp_path_factory):
    """Images with masks of 0, 1, 2 and some 255."""
    root = tmp_path_factory.mktemp('good')
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
def root(good, tmp_path):
    return shutil.copytree(good, tmp_path / 'data')


def make_config(root, **dataset):
    """The config of the good data set; both splits get ``dataset``."""

    def loader(split):
        settings = dict(
            type='BaseSegDataset',
            data_root=str(root),
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


def mask_of(root, change, split='train', number=0):
    """Writes a changed mask."""
    path = root / f'ann/{split}/{number}.png'
    changed = change(np.asarray(Image.open(path)).copy())
    Image.fromarray(changed).save(path)


def all_masks(root, change):
    for split, count in (('train', 3), ('val', 2)):
        for number in range(count):
            mask_of(root, change, split, number)


def only(report, is_error=True):
    """The one diagnostic of the report."""
    (diagnostic,) = report.diagnostics
    assert diagnostic.is_error == is_error
    return diagnostic


def test_valid_data_set_has_no_diagnostics(root):
    told = []
    report = check_dataset(
        make_config(root), progress=lambda *x: told.append(x)
    )
    assert list(report.diagnostics) == []
    assert told == [
        *(('train', n, 3) for n in (1, 2, 3)),
        *(('val', n, 2) for n in (1, 2)),
    ]
    assert list(report.splits) == ['train', 'val']  # test is val
    stats = report.statistics['train']
    assert (stats.num_images, stats.num_ignored) == (3, 3 * 3 * W)
    assert stats.pixel_counts.sum() == 3 * (H - 3) * W
    assert stats.image_counts.tolist() == [3, 3, 3]


# files


def test_wrong_suffix_of_images(root):
    found = check_dataset(make_config(root, img_suffix='.jpg')).diagnostics
    assert {x.where for x in found if x.is_error} == {'train', 'val'}
    assert found[0].problem == 'no image was found'
    assert "holds 3 .png: set train_dataloader.dataset.img_suffix='.png'" in (
        found[0].remedy
    )


def test_wrong_suffix_of_masks(root):
    found = check_dataset(
        make_config(root, seg_map_suffix='_mask.png')
    ).diagnostics
    assert [x.problem for x in found] == ['there is no mask'] * 2
    assert found[0].count == 3
    assert 'train_dataloader.dataset.seg_map_suffix' in found[0].remedy


@pytest.mark.parametrize(
    ('settings', 'key'),
    [
        (dict(data_root='nowhere'), 'data_root'),
        (dict(data_prefix=dict(img_path='x')), 'data_prefix.img_path'),
    ],
)
def test_missing_folder(root, settings, key):
    found = check_dataset(make_config(root, **settings)).diagnostics
    assert all(x.is_error for x in found)
    assert f'set train_dataloader.dataset.{key}' in found[0].remedy


def test_missing_mask(root):
    (root / 'ann/train/1.png').unlink()
    diagnostic = only(check_dataset(make_config(root)))
    assert diagnostic.problem == 'there is no mask'
    assert diagnostic.examples == (str(root / 'ann/train/1.png'),)


@pytest.mark.parametrize('kind', ['img', 'ann'])
def test_broken_file(root, kind):
    path = root / kind / 'train/2.png'
    path.write_bytes(path.read_bytes()[:60])
    diagnostic = only(check_dataset(make_config(root)))
    assert 'cannot be read' in diagnostic.problem
    assert diagnostic.where == 'train'
    assert str(root / kind) in diagnostic.examples[0]


def test_image_and_mask_of_different_size(root):
    mask_of(root, lambda mask: mask[:-1])
    diagnostic = only(check_dataset(make_config(root)))
    assert diagnostic.problem == 'image and mask differ in size'
    assert diagnostic.examples[0].endswith('0.png: 36x24 and 36x23')


def test_exif_rotated_images(root):
    """As cameras write them; mmcv turns the image, and not the mask."""
    image = Image.open(root / 'img/train/0.png')
    exif = Image.Exif()
    exif[0x0112] = 6
    for path in (root / 'img/train').iterdir():
        image.save(path.with_suffix('.jpg'), exif=exif)
        path.unlink()
    cfg = make_config(root)
    cfg.train_dataloader.dataset.img_suffix = '.jpg'
    diagnostic = only(check_dataset(cfg))
    assert diagnostic.problem == TURNED
    assert diagnostic.count == 3
    assert "color_type='color_ignore_orientation'" in diagnostic.remedy
    cfg.train_dataloader.dataset.pipeline[0]['color_type'] = (
        'color_ignore_orientation'
    )
    assert list(check_dataset(cfg).diagnostics) == []


@pytest.mark.parametrize('kind', ['12 of 16 bits', '0 to 1'])
def test_nearly_black_images(root, kind):
    path = root / 'img/train/1.png'
    rng = np.random.default_rng(0)
    high, dtype = (4096, np.uint16) if '12' in kind else (2, np.uint8)
    Image.fromarray(rng.integers(0, high, (H, W), dtype)).save(path)
    (diagnostic,) = check_dataset(make_config(root)).diagnostics
    assert not diagnostic.is_error and diagnostic.count == 1
    assert diagnostic.problem == 'an image is nearly black'
    most = 15 if '12' in kind else 1
    assert diagnostic.examples == (f'{path}: at most {most} of 255',)
    assert '12 bits in a file of 16' in diagnostic.remedy


def test_same_image_in_two_splits(root):
    shutil.copy(root / 'img/train/1.png', root / 'img/val/0.png')
    diagnostic = only(check_dataset(make_config(root)))
    assert (diagnostic.where, diagnostic.problem) == (
        'val',
        'an image is in train, too',
    )
    assert list(check_dataset(make_config(root), limit=8).diagnostics) == []
    cfg = make_config(root)
    cfg.val_dataloader = cfg.train_dataloader.copy()
    cfg.val_dataloader.dataset = dict(cfg.val_dataloader.dataset, indices=2)
    cfg.test_dataloader = None
    diagnostic = only(check_dataset(cfg, limit=8), is_error=False)
    assert (diagnostic.problem, diagnostic.count) == (
        'an image is in train, too',
        2,
    )


def test_exif_rotation_by_180_degrees(root):
    image = Image.open(root / 'img/train/0.png')
    exif = Image.Exif()
    exif[0x0112] = 3
    image.save(root / 'img/train/0.png', exif=exif)
    diagnostic = only(check_dataset(make_config(root)), is_error=False)
    assert diagnostic.problem == TURNED


# labels


def test_label_beyond_the_classes(root):
    mask_of(root, lambda mask: np.where(mask == 2, 7, mask).astype(np.uint8))
    diagnostic = only(check_dataset(make_config(root)))
    assert diagnostic.problem == 'labels are of no class: there are 3'
    assert diagnostic.examples[0].endswith('0.png: [7]')
    assert '--remap 7=255' in diagnostic.remedy
    mask_of(root, lambda mask: np.where(mask == 1, 8, mask).astype(np.uint8))
    diagnostic = only(check_dataset(make_config(root)))
    assert diagnostic.examples[0].endswith('0.png: [7, 8]')
    assert 'num_classes' in diagnostic.remedy


def test_void_label_that_is_not_ignored(root):
    all_masks(root, lambda mask: np.where(mask == 255, 3, mask))
    found = check_dataset(make_config(root)).diagnostics
    assert len(found) == 2
    assert 'Does 3 mean nothing? then write 255' in found[0].remedy
    assert '--remap 3=255' in found[0].remedy
    assert 'reduce_zero_label=True' in found[0].remedy  # or 0 means nothing


def test_labels_that_count_from_one(root):
    all_masks(root, lambda mask: np.where(mask == 255, mask, mask + 1))
    found = check_dataset(make_config(root)).diagnostics
    assert 'train_dataloader.dataset.reduce_zero_label=True' in (
        found[0].remedy
    )
    assert (
        list(
            check_dataset(
                make_config(root, reduce_zero_label=True)
            ).diagnostics
        )
        == []
    )


def test_zero_label_reduced_although_it_is_a_class(root):
    found = check_dataset(
        make_config(root, reduce_zero_label=True), ['train']
    ).diagnostics
    assert [x.is_error for x in found] == [False]
    assert 'is label 0 a class? then set it to False' in found[0].remedy


def test_zero_label_reduced_in_one_split(root):
    cfg = make_config(root)
    cfg.val_dataloader.dataset.reduce_zero_label = True
    found = check_dataset(cfg).errors
    assert any(
        x.problem == 'reduce_zero_label is True, and False in train'
        for x in found
    )


def test_zero_label_reduced_in_the_pipeline_alone(root):
    pipeline = [PIPELINE[0], dict(PIPELINE[1], reduce_zero_label=True)]
    found = check_dataset(make_config(root, pipeline=pipeline)).errors
    assert found[0].problem == (
        'reduce_zero_label is False in the data set and True in '
        'LoadAnnotations'
    )


def test_binary_masks_of_0_and_255(root):
    all_masks(root, lambda mask: np.where(mask == 1, 255, 0).astype(np.uint8))
    cfg = make_config(
        root, metainfo=dict(classes=('back', 'cell'), palette=PALETTE[:2])
    )
    cfg.model.decode_head.num_classes = 2
    found = check_dataset(cfg).diagnostics
    assert [x.is_error for x in found] == [True, False, False]
    assert "'cell' never occurs" in found[0].problem
    assert '--remap 255=1' in found[0].remedy


def test_masks_of_colours(root):
    mask_of(root, lambda mask: np.stack([mask] * 3, -1))
    diagnostic = only(check_dataset(make_config(root)))
    assert 'a mask holds colours' in diagnostic.problem


def test_palette_masks_need_pillow_backend(root):
    for path in (root / 'ann/train').iterdir():
        mask = Image.open(path)
        mask.putpalette(list(range(256)) * 3)
        mask.save(path)
    assert list(check_dataset(make_config(root)).diagnostics) == []
    pipeline = [PIPELINE[0], dict(PIPELINE[1], imdecode_backend='cv2')]
    cfg = make_config(root, pipeline=pipeline)
    diagnostic = only(check_dataset(cfg, ['train']))
    assert diagnostic.problem == 'cv2 reads the colours of a mask of mode P'


def test_positive_class_may_be_missing_in_one_split(root):
    """Two classes and void, val without the second class."""
    cfg = make_config(
        root, metainfo=dict(classes=('back', 'cell'), palette=PALETTE[:2])
    )
    cfg.model.decode_head.num_classes = 2
    all_masks(root, lambda mask: np.where(mask == 2, 0, mask))
    for number in range(2):
        mask_of(root, lambda mask: np.where(mask == 1, 0, mask), 'val', number)
    diagnostic = only(check_dataset(cfg), is_error=False)
    assert diagnostic.problem == 'in 2 images never occur: cell'


def test_void_label_beside_a_reduced_zero_label(root):
    """The remedy names the label as it is in the file."""
    all_masks(root, lambda mask: np.where(mask == 255, 4, mask + 1))
    cfg = make_config(root, reduce_zero_label=True)
    found = check_dataset(cfg).errors
    assert '--remap 4=255' in found[0].remedy


def test_ignored_label_that_is_a_class(root):
    cfg = make_config(root, ignore_index=1)
    cfg.model.decode_head.ignore_index = 1
    all_masks(root, lambda mask: np.where(mask == 255, 0, mask))
    stats = check_dataset(cfg).statistics['train']
    assert stats.num_ignored == 753  # a third of what has a label
    assert stats.pixel_counts[1] == 0


def test_masks_of_16_bits(root):
    def widen(mask):
        return np.where(mask == 2, 300, mask.astype(np.uint16))

    mask_of(root, lambda mask: widen(mask).astype(np.uint16))
    diagnostic = only(check_dataset(make_config(root)))
    assert 'a mask holds more than 255' in diagnostic.problem
    assert diagnostic.examples[0].endswith('0.png: 300')


def test_class_that_never_occurs(root):
    all_masks(root, lambda mask: np.where(mask == 2, 0, mask))
    found = check_dataset(make_config(root)).diagnostics
    assert [x.is_error for x in found] == [False, False]
    assert found[0].problem == 'in 3 images never occur: car'


def test_mostly_ignored_pixels(root):
    def hide(mask):
        mask[4:] = 255
        return mask

    all_masks(root, hide)
    found = check_dataset(make_config(root)).diagnostics
    assert '96% of the pixels are ignored' in found[0].problem


# settings


def test_wrong_num_classes(root):
    cfg = make_config(root)
    cfg.model.decode_head.num_classes = 2
    cfg.model.auxiliary_head = [dict(num_classes=3), dict(num_classes=4)]
    found = check_dataset(cfg).diagnostics
    assert [(x.where, x.is_error) for x in found] == [
        ('model.decode_head', True),
        ('model.auxiliary_head.1', False),
    ]
    assert found[0].remedy == 'set model.decode_head.num_classes=3'


@pytest.mark.parametrize(
    ('loss', 'length', 'wanted'),
    [('loss', 2, 3), ('loss_decode', 2, 3), ('loss_cls', 3, 4)],
)
def test_wrong_number_of_class_weights(root, loss, length, wanted):
    cfg = make_config(root)
    cfg.model.decode_head[loss] = dict(class_weight=[1.0] * length)
    diagnostic = only(check_dataset(cfg))
    assert diagnostic.where == f'model.decode_head.{loss}'
    assert f'give it {wanted}' in diagnostic.remedy
    cfg.model.decode_head[loss] = dict(class_weight=[1.0] * wanted)
    assert list(check_dataset(cfg).diagnostics) == []


def test_other_ignored_label(root):
    cfg = make_config(root)
    cfg.model.decode_head.ignore_index = 0
    assert 'ignore_index=0' in only(check_dataset(cfg)).problem


def test_padding_label_of_a_class(root):
    cfg = make_config(root)
    cfg.model.data_preprocessor.seg_pad_val = 0
    diagnostic = only(check_dataset(cfg))
    assert 'padding would count as class 0' in diagnostic.problem


@pytest.mark.parametrize(
    ('palette', 'problem'),
    [
        ([*PALETTE, [1, 2, 3]], 'palette does not match classes'),
        ([*PALETTE[:2], [1, 2, 300]], '(1, 2, 300) is no colour'),
    ],
)
def test_wrong_palette(root, palette, problem):
    metainfo = dict(classes=CLASSES, palette=palette)
    found = check_dataset(make_config(root, metainfo=metainfo)).errors
    assert problem in found[0].problem


def test_palette_with_equal_colours(root):
    metainfo = dict(classes=CLASSES, palette=[*PALETTE[:2], PALETTE[0]])
    found = check_dataset(make_config(root, metainfo=metainfo)).diagnostics
    assert "'sky' and 'car' have the colour (10, 20, 30)" in found[0].problem
    assert not found[0].is_error


def test_splits_with_other_classes(root):
    cfg = make_config(root)
    metainfo = dict(classes=('sky', 'car', 'road'), palette=PALETTE)
    cfg.val_dataloader.dataset.metainfo = metainfo
    cfg.test_dataloader = None
    diagnostic = only(check_dataset(cfg))
    assert 'its classes are not those of train' in diagnostic.problem


# the rest


def test_joined_and_repeated_data_sets(root):
    cfg = make_config(root)
    part = cfg.train_dataloader.dataset.to_dict()
    cfg.train_dataloader.dataset = dict(
        type='ConcatDataset',
        datasets=[
            dict(type='RepeatDataset', times=2, dataset=part),
            dict(part, img_suffix='.jpg'),
        ],
    )
    diagnostic = only(check_dataset(cfg))
    assert diagnostic.where == 'train 2'
    key = 'train_dataloader.dataset.datasets.1.img_suffix'
    assert key in diagnostic.remedy


def test_parts_of_one_split_may_share_images(root):
    cfg = make_config(root)
    part = cfg.train_dataloader.dataset.to_dict()
    cfg.train_dataloader.dataset = dict(
        type='ConcatDataset', datasets=[part, part]
    )
    assert list(check_dataset(cfg).diagnostics) == []


def test_images_resized_before_their_masks_are_read(root):
    """As in mmseg's test pipelines."""
    resize = dict(type='Resize', scale=(72, 48), keep_ratio=True)
    pipeline = [PIPELINE[0], resize, PIPELINE[1]]
    assert (
        list(check_dataset(make_config(root, pipeline=pipeline)).diagnostics)
        == []
    )


def test_other_loaders_are_not_checked(root):
    """Masks of colours, by a loader that knows them."""

    class LoadColours:
        def __call__(self, results):
            mask = np.asarray(Image.open(results['seg_map_path']))
            return dict(results, gt_seg_map=mask[..., 0])

    all_masks(root, lambda mask: np.stack([mask] * 3, -1))
    cfg = make_config(root)
    for split in ('train', 'val', 'test'):
        dataset = cfg[f'{split}_dataloader'].dataset
        dataset.pipeline = [PIPELINE[0], dict(type=LoadColours)]
    assert list(check_dataset(cfg).diagnostics) == []


def test_a_test_split_may_be_without_labels(root):
    cfg = make_config(root)
    cfg.test_dataloader.dataset = dict(
        cfg.test_dataloader.dataset,
        data_prefix=dict(img_path='img/val'),
        pipeline=PIPELINE[:1],
    )
    found = check_dataset(cfg).diagnostics
    assert {x.problem for x in found} == {'an image is in val, too'}
    cfg.val_dataloader.dataset.data_prefix = dict(img_path='img/val')
    problems = {x.problem: x.remedy for x in check_dataset(cfg).diagnostics}
    assert problems['there is no folder of masks'] == (
        'set val_dataloader.dataset.data_prefix.seg_map_path'
    )


def data_sets():
    """One experiment for each data set, but those without files."""
    found = {}
    for path in sorted((ROOT / 'configs/faseg').glob('*.py')):
        if 'shapes' not in path.stem and 'convnext' not in path.stem:
            kind = Config.fromfile(path).train_dataloader.dataset.type
            found.setdefault(kind, path)
    return found


@pytest.mark.parametrize('kind', data_sets())
def test_package_data_sets_have_no_diagnostics(tmp_path, monkeypatch, kind):
    """Small images in their folders, with labels as they have them."""
    monkeypatch.chdir(tmp_path)
    cfg = Config.fromfile(data_sets()[kind])
    init_default_scope('mmseg')
    data_set = DATASETS.get(f'mmseg.{kind}' if '.' not in kind else kind)
    count = cfg.model.decode_head.num_classes
    rng = np.random.default_rng(0)
    for split in ('train', 'val'):
        settings = cfg[f'{split}_dataloader'].dataset
        defaults = {
            name: x.default
            for name, x in inspect.signature(data_set).parameters.items()
        }
        at = {**defaults, **settings}
        reduced = at.get('reduce_zero_label') is True
        folders = [
            Path(at['data_root'], at['data_prefix'][x])
            for x in ('img_path', 'seg_map_path')
        ]
        ends = at.get('img_suffix', '.jpg'), at.get('seg_map_suffix', '.png')
        names = [f'{split}_{n}' for n in range(2)]
        void = count if 'CamVid' in kind else 0 if reduced else 255
        mask = rng.integers(0, count, (60, 90)) + reduced
        mask[:3] = void
        for name in names:
            image = rng.integers(0, 256, (60, 90, 3), np.uint8)
            for folder, end, content in zip(
                folders, ends, (image, mask.astype(np.uint8)), strict=True
            ):
                folder.mkdir(parents=True, exist_ok=True)
                Image.fromarray(content).save(folder / f'{name}{end}')
        if at.get('ann_file'):
            path = Path(at['data_root'], at['ann_file'])
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text('\n'.join(names))
    report = check_dataset(cfg, ('train', 'val'), limit=8)
    assert [str(x) for x in report.diagnostics] == []
    for stats in report.statistics.values():
        assert stats.num_images == 2
        assert stats.num_ignored == 2 * 3 * 90


def test_generated_images_have_no_files(root):
    cfg = Config.fromfile(
        ROOT / 'configs/faseg/faseg_r18_1xb8-demo_shapes-128x128.py'
    )
    report = check_dataset(cfg, limit=2)
    assert list(report.diagnostics) == []
    assert report.statistics['train'].num_images == 2


def test_a_limit_reads_images_spread_over_the_split(root):
    report = check_dataset(make_config(root), limit=2)
    assert report.statistics['train'].num_images == 2
    mask_of(root, lambda mask: mask[:-1], number=2)
    assert check_dataset(make_config(root), limit=2).errors


def test_detectors_raise(root):
    with pytest.raises(ValueError, match=r'no model\.decode_head'):
        check_dataset(Config(dict(model=dict(panoptic_head={}))))


def test_histogram_counts_images(root):
    all_masks(root, lambda mask: np.where(mask == 2, 0, mask))
    report = check_dataset(make_config(root))
    figure = draw_histogram(report.splits, report.statistics)
    (axes,) = figure.axes
    counts = [x.get_text() for x in axes.texts]
    assert counts == ['3', '3', 'never', '2', '2', 'never']
    widths = [x.get_width() for x in axes.patches[:3]]
    assert sum(widths) == pytest.approx(100)


def write(cfg, path):
    cfg.dump(str(path))
    return path


def test_tool_prints_and_exits_with_status(root, run_python, tmp_path):
    tool = ROOT / 'tools/analysis_tools/check_dataset.py'
    cfg = make_config(root)
    path = write(cfg, tmp_path / 'config.py')
    image = tmp_path / 'classes.png'
    done = run_python(tool, path, '--out', image)
    assert '0 errors, 0 warnings' in done.stdout
    assert image.stat().st_size > 1000
    cfg.model.decode_head.num_classes = 2
    write(cfg, path)
    done = run_python(tool, path, '--quick', check=False)
    assert done.returncode == 1
    assert 'error: model.decode_head: num_classes=2' in done.stdout
    assert '-> set model.decode_head.num_classes=3' in done.stdout
