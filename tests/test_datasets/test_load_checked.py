"""Images and masks of all formats, and damaged ones."""

import io

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import DATASETS, TRANSFORMS
from mmengine.runner import Runner
from mmseg.datasets.transforms import LoadAnnotations
from PIL import Image

from mmfaseg.data_check import check_dataset

CONFIG = 'configs/faseg/faseg_r18_1xb8-demo_shapes-128x128.py'
RAMP = np.linspace(0, 255, 48 * 64).reshape(48, 64)
RGB = np.stack([RAMP, RAMP[::-1], RAMP[:, ::-1]], -1).astype(np.uint8)
IMAGE = Image.fromarray(RGB)
ROTATED = Image.Exif()
ROTATED[0x0112] = 6  # by 90 degrees


def encode(image, kind='PNG', **options):
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def gray_of(values):
    return np.repeat(values[..., None], 3, -1)


PALETTE = IMAGE.convert('P', palette=Image.Palette.ADAPTIVE)
CLEAR = Image.fromarray(np.dstack([RGB, np.zeros_like(RGB[..., 0])]))
DEEP = Image.fromarray((RAMP * 257).astype(np.uint16))
# content, expected RGB image, and mean tolerance
KINDS = {
    'rgb.png': (encode(IMAGE), RGB, 0),
    'gray.png': (
        encode(IMAGE.convert('L')),
        gray_of(np.asarray(IMAGE.convert('L'))),
        0,
    ),
    'gray16.png': (encode(DEEP), gray_of((RAMP * 257) // 256), 1),
    'gray16.tif': (encode(DEEP, 'TIFF'), gray_of((RAMP * 257) // 256), 1),
    'transparent.png': (encode(CLEAR), RGB, 0),
    'palette.png': (encode(PALETTE), np.asarray(PALETTE.convert('RGB')), 0),
    'one_bit.png': (
        encode(IMAGE.convert('1')),
        gray_of(255 * np.asarray(IMAGE.convert('1')).astype(np.uint8)),
        0,
    ),
    'cmyk.jpg': (encode(IMAGE.convert('CMYK'), 'JPEG', quality=98), RGB, 8),
    'rotated.jpg': (
        encode(IMAGE, 'JPEG', exif=ROTATED, quality=98),
        np.rot90(RGB, -1),
        8,
    ),
    'progressive.jpg': (
        encode(IMAGE, 'JPEG', progressive=True, quality=98),
        RGB,
        8,
    ),
    'pixel.png': (encode(Image.fromarray(RGB[:1, :1])), RGB[:1, :1], 0),
    'row.png': (encode(Image.fromarray(RGB[:1])), RGB[:1], 0),
}


@pytest.mark.smoke
@pytest.mark.parametrize('name', KINDS)
def test_images_of_all_formats(name, tmp_path):
    content, expected, tolerance = KINDS[name]
    (tmp_path / name).write_bytes(content)
    load = TRANSFORMS.build(dict(type='mmfaseg.LoadCheckedImage'))
    found = load(dict(img_path=str(tmp_path / name)))
    image = found['img']
    assert image.dtype == np.uint8 and image.shape == expected.shape
    difference = np.abs(image[..., ::-1] - expected.astype(float))
    assert difference.max() <= max(4 * tolerance, 0)
    assert difference.mean() <= tolerance
    assert found['img_shape'] == found['ori_shape'] == expected.shape[:2]
    reference = TRANSFORMS.build(dict(type='LoadImageFromFile'))
    expected = reference(dict(img_path=str(tmp_path / name)))['img']
    assert np.array_equal(image, expected)


def test_color_type_ignores_orientation(tmp_path):
    (tmp_path / 'x.jpg').write_bytes(KINDS['rotated.jpg'][0])
    settings = dict(
        type='mmfaseg.LoadCheckedImage',
        color_type='color_ignore_orientation',
        to_float32=True,
    )
    image = TRANSFORMS.build(settings)(dict(img_path=f'{tmp_path}/x.jpg'))
    assert image['img'].shape == RGB.shape
    assert image['img'].dtype == np.float32


@pytest.mark.parametrize('share', [0.0, 0.1, 0.5, 0.95])
@pytest.mark.parametrize('name', ['rgb.png', 'cmyk.jpg', 'progressive.jpg'])
def test_truncated_file_raises(name, share, tmp_path):
    content = KINDS[name][0]
    (tmp_path / name).write_bytes(content[: int(share * len(content))])
    load = TRANSFORMS.build(dict(type='mmfaseg.LoadCheckedImage'))
    with pytest.raises(ValueError, match=f'{name} cannot be read as an image'):
        load(dict(img_path=str(tmp_path / name)))


def pairs(folder, damage=()):
    """Writes eight images with masks; damaged ones are truncated."""
    (folder / 'images').mkdir()
    (folder / 'masks').mkdir()
    mask = (RAMP / 52).astype(np.uint8)
    for number in range(8):
        content = encode(IMAGE)
        if number in damage:
            content = content[: len(content) // 2]
        (folder / f'images/{number}.png').write_bytes(content)
        Image.fromarray(mask).save(folder / f'masks/{number}.png')
    return dict(
        type='BaseSegDataset',
        data_root=str(folder),
        data_prefix=dict(img_path='images', seg_map_path='masks'),
        img_suffix='.png',
        metainfo=dict(classes=list('abcde')),
    )


def pipeline(on_error):
    return [
        dict(type='mmfaseg.LoadCheckedImage', on_error=on_error),
        dict(type='mmfaseg.LoadCheckedAnnotations', on_error=on_error),
        dict(type='PackSegInputs'),
    ]


@pytest.mark.parametrize('workers', [0, 2])
def test_damaged_images_are_replaced(workers, tmp_path):
    settings = pairs(tmp_path, damage=(1, 4))
    dataset = DATASETS.build(dict(settings, pipeline=pipeline('skip')))
    loader = torch.utils.data.DataLoader(dataset, None, num_workers=workers)
    np.random.seed(0)
    loaded = [batch['data_samples'].img_path for batch in loader]
    assert len(loaded) == 8
    assert not any(x.endswith(('1.png', '4.png')) for x in loaded)


def test_each_damaged_image_is_logged_once(tmp_path, monkeypatch):
    settings = pairs(tmp_path, damage=(1,))
    dataset = DATASETS.build(dict(settings, pipeline=pipeline('skip')))
    messages = []
    name = 'mmfaseg.datasets.transforms.load_checked.print_log'
    monkeypatch.setattr(name, lambda text, **_: messages.append(text))
    for _ in range(3):
        assert dataset[1] is not None
    (text,) = messages
    assert '1.png cannot be read as an image' in text


def test_damaged_images_raise_by_default(tmp_path):
    settings = pairs(tmp_path, damage=(1,))
    steps = pipeline('raise')
    del steps[0]['on_error'], steps[1]['on_error']
    dataset = DATASETS.build(dict(settings, pipeline=steps))
    assert dataset[0] is not None
    with pytest.raises(ValueError, match=r'1\.png cannot be read'):
        dataset[1]
    (tmp_path / 'images/2.png').unlink()
    with pytest.raises(FileNotFoundError, match=r'2\.png'):
        dataset[2]
    with pytest.raises(ValueError, match=r"on_error must be one.*'no'"):
        DATASETS.build(dict(settings, pipeline=pipeline('no')))


MASKS = {
    'of_17_bits': (
        np.full((48, 64), 65536, np.int32),
        'int32 labels from 65536 to 65536',
    ),
    'negative': (
        np.full((48, 64), -1, np.int32),
        'int32 labels from -1 to -1',
    ),
    'fractional': (
        np.full((48, 64), 1.5, np.float32),
        'float32 labels from 1.5 to 1.5',
    ),
    'colored': (np.zeros((48, 64, 3), np.uint8), 'one channel'),
    'rotated': (np.zeros((64, 48), np.uint8), r'\(64, 48\).*\(48, 64\).*EXIF'),
}


@pytest.mark.parametrize('on_error', ['raise', 'skip'])
@pytest.mark.parametrize('name', [*MASKS, 'truncated', 'missing'])
def test_invalid_masks_raise_or_are_replaced(name, on_error, tmp_path):
    """mmseg takes labels modulo 256, and masks of any size."""
    settings = pairs(tmp_path)
    path = tmp_path / 'masks/3.png'
    message = r'3\.png'
    if name == 'truncated':
        path.write_bytes(path.read_bytes()[:-30])
    elif name == 'missing':
        path.unlink()
    else:
        mask, message = MASKS[name]
        kind = 'TIFF' if mask.dtype in (np.int32, np.float32) else 'PNG'
        Image.fromarray(mask).save(path, kind)
    dataset = DATASETS.build(dict(settings, pipeline=pipeline(on_error)))
    if on_error == 'skip':
        assert not dataset[3]['data_samples'].img_path.endswith('3.png')
        return
    with pytest.raises(
        (ValueError, FileNotFoundError), match=message
    ) as raised:
        dataset[3]
    assert '3.png' in str(raised.value)


def test_new_labels_may_need_more_bits_than_the_file(tmp_path):
    Image.fromarray(np.full((4, 4), 7, np.uint8)).save(tmp_path / 'x.png')
    entry = dict(
        seg_map_path=str(tmp_path / 'x.png'),
        reduce_zero_label=False,
        label_map={7: 300},
        seg_fields=[],
    )
    load = TRANSFORMS.build(dict(type='mmfaseg.LoadCheckedAnnotations'))
    assert np.unique(load(entry)['gt_seg_map']).tolist() == [300]


def test_labels_above_255_have_16_bits(tmp_path):
    mask = np.arange(0, 65536, 1024, dtype=np.uint16).reshape(8, 8)
    Image.fromarray(mask).save(tmp_path / 'x.png')
    entry = dict(
        seg_map_path=str(tmp_path / 'x.png'),
        reduce_zero_label=False,
        label_map={1024: 3, 64512: 65535},
    )
    load = TRANSFORMS.build(dict(type='mmfaseg.LoadCheckedAnnotations'))
    labels = load(dict(entry, seg_fields=[]))['gt_seg_map']
    assert labels.dtype == np.uint16
    assert labels.ravel()[[0, 1, 2, -1]].tolist() == [0, 3, 2048, 65535]
    with pytest.raises(ValueError, match='supports labels to 255'):
        load(dict(entry, reduce_zero_label=True, seg_fields=[]))


@pytest.mark.parametrize('label_map', [None, {0: 255, 1: 0, 2: 5, 9: 1}])
@pytest.mark.parametrize('reduce', [False, True])
def test_valid_masks_equal_mmseg(reduce, label_map, tmp_path):
    mask = np.arange(256, dtype=np.uint8).reshape(16, 16)
    Image.fromarray(mask).save(tmp_path / 'x.png')
    entry = dict(
        seg_map_path=str(tmp_path / 'x.png'),
        reduce_zero_label=reduce,
        label_map=label_map,
    )
    ours = TRANSFORMS.build(dict(type='mmfaseg.LoadCheckedAnnotations'))
    found = ours(dict(entry, seg_fields=[]))
    reference = LoadAnnotations()(dict(entry, seg_fields=[]))
    assert np.array_equal(found['gt_seg_map'], reference['gt_seg_map'])
    assert found['gt_seg_map'].dtype == reference['gt_seg_map'].dtype
    assert found['seg_fields'] == ['gt_seg_map']


@pytest.mark.parametrize('size', [(1, 1), (1, 5), (5, 1)])
def test_thin_masks_keep_their_shape(size, tmp_path):
    Image.fromarray(np.ones(size, np.uint8)).save(tmp_path / 'x.png')
    ours = TRANSFORMS.build(dict(type='mmfaseg.LoadCheckedAnnotations'))
    entry = dict(seg_map_path=f'{tmp_path}/x.png', reduce_zero_label=False)
    assert ours(dict(entry, seg_fields=[]))['gt_seg_map'].shape == size


def test_contradicting_reduce_zero_label_raises(tmp_path):
    Image.fromarray(np.ones((4, 4), np.uint8)).save(tmp_path / 'x.png')
    ours = TRANSFORMS.build(
        dict(type='mmfaseg.LoadCheckedAnnotations', reduce_zero_label=True)
    )
    entry = dict(seg_map_path=f'{tmp_path}/x.png', reduce_zero_label=False)
    with pytest.raises(ValueError, match='reduce_zero_label is False in the'):
        ours(dict(entry, seg_fields=[]))


def test_config_errors_are_not_skipped(tmp_path):
    steps = pipeline('skip')
    steps[1]['reduce_zero_label'] = True
    dataset = DATASETS.build(dict(pairs(tmp_path), pipeline=steps))
    with pytest.raises(ValueError, match='reduce_zero_label is False in the'):
        dataset[0]
    steps[1] = dict(steps[1], imdecode_backend='pilow')
    with pytest.raises(ValueError, match=r"one of .*'pilow'"):
        TRANSFORMS.build(steps[1])


@pytest.mark.parametrize('on_error', ['raise', 'skip'])
def test_data_check_warns_about_skipped_files(on_error, root, tmp_path):
    """``on_error='skip'`` is an error in validation."""
    settings = pairs(tmp_path, damage=(1,))
    (tmp_path / 'masks/2.png').unlink()
    Image.fromarray(RGB).save(tmp_path / 'masks/3.png')
    cfg = Config.fromfile(root / CONFIG)
    for name in ('train', 'val'):
        data = dict(settings, pipeline=pipeline(on_error))
        cfg[f'{name}_dataloader']['dataset'] = data
    cfg.merge_from_dict(
        {
            'model.decode_head.num_classes': 5,
            'model.auxiliary_head.num_classes': 5,
        }
    )
    found = check_dataset(cfg, ['train']).diagnostics
    about_files = [x for x in found if 'png' in str(x)]
    assert sum(x.count for x in about_files) == 3
    skips = on_error == 'skip'
    for diagnostic in about_files:
        assert diagnostic.is_error != skips
        assert ('training skips it' in str(diagnostic)) == skips
    found = check_dataset(cfg, ['val']).errors
    assert any("on_error='skip'" in str(x) for x in found) == skips


def test_model_trains_on_images_of_all_formats(root, tmp_path):
    """16 bits, grayscale, CMYK, rotated, 1x1, truncated, unlabeled."""
    settings = pairs(tmp_path, damage=(0,))
    for number, (name, (content, image, _)) in enumerate(KINDS.items()):
        (tmp_path / f'images/k{number}.png').write_bytes(content)
        labels = np.zeros(image.shape[:2], np.uint8)
        labels[::2] = 255 if 'gray' in name else 3
        Image.fromarray(labels).save(tmp_path / f'masks/k{number}.png')
    cfg = Config.fromfile(root / CONFIG)
    cfg.train_dataloader['dataset'] = dict(
        settings,
        pipeline=[
            *pipeline('skip')[:2],
            dict(type='RandomCrop', crop_size=(32, 32)),
            dict(type='PackSegInputs'),
        ],
    )
    cfg.merge_from_dict(
        {
            'work_dir': str(tmp_path / 'work'),
            'train_dataloader.batch_size': 4,
            'train_dataloader.num_workers': 0,
            'train_dataloader.persistent_workers': False,
            'experiment_name': tmp_path.name,
            'model.data_preprocessor.size': (32, 32),
            'model.decode_head.num_classes': 5,
            'model.auxiliary_head.num_classes': 5,
            'train_cfg.max_iters': 5,  # one epoch
            'custom_hooks': [dict(type='mmfaseg.NonFiniteHook')],
            'randomness': dict(seed=0),
        }
    )
    for name in ('val_dataloader', 'val_evaluator', 'val_cfg'):
        cfg[name] = None
    runner = Runner.from_cfg(cfg)
    runner.train()
    losses = runner.message_hub.get_scalar('train/loss').data[0]
    assert len(losses) == 5 and np.isfinite(losses).all()
