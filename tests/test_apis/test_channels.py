"""Models of one, four and six channels, from training to figures."""

import importlib
import json
import re
import urllib.request

import cv2
import numpy as np
import pytest
from mmcv.transforms import TRANSFORMS
from mmengine.config import Config
from mmengine.runner import Runner
from PIL import Image

from mmfaseg.apis import FASegInferencer
from mmfaseg.apis.image_loader import ImageLoader
from mmfaseg.datasets.shapes_generator import generate_shapes
from mmfaseg.explore import main as explore_main
from mmfaseg.infer import main as infer_main
from mmfaseg.utils.input_channels import input_channels

CONFIG = 'configs/faseg/faseg_r18_1xb8-demo_shapes-128x128.py'
SIZE = (64, 96)
LOADERS = {  # loading transform and suffix of the files
    1: (dict(type='LoadImageFromFile', color_type='grayscale'), '.png'),
    4: (dict(type='LoadImageFromFile', color_type='unchanged'), '.png'),
    6: (dict(type='LoadArray'), '.npy'),
}


@TRANSFORMS.register_module()
class LoadArray:
    """A custom loader of uint16 images, for one suffix."""

    def __call__(self, results):
        if not results['img_path'].endswith('.npy'):
            raise ValueError('unknown suffix')
        image = np.load(results['img_path'])
        shape = image.shape[:2]
        return {
            **results,
            'img': image,
            'img_shape': shape,
            'ori_shape': shape,
        }


def make_image(number, channels):
    """Returns image and labels; channels 3 to 5 are copies."""
    image, labels = generate_shapes(number, 'test', SIZE)
    if channels == 1:
        return image[..., 0], labels
    image = image[..., [0, 1, 2, 0, 1, 2][:channels]]
    if channels == 6:
        image = image.astype(np.uint16) * 16
    return image, labels


class Trained:
    """A model after two iterations, its work dir and an image file."""

    def __init__(self, root, folder, channels):
        self.channels = channels
        loader, suffix = LOADERS[channels]
        for name in ('images', 'masks'):
            (folder / name).mkdir()
        for n in range(2):
            image, labels = make_image(n, channels)
            if suffix == '.npy':
                np.save(folder / f'images/{n}.npy', image)
            else:
                cv2.imwrite(str(folder / f'images/{n}.png'), image)
            cv2.imwrite(str(folder / f'masks/{n}.png'), labels)
        self.images = folder / 'images'
        self.image = self.images / f'0{suffix}'
        self.array = make_image(0, channels)[0]
        cfg = Config.fromfile(root / CONFIG)
        cfg.merge_from_dict(
            dict(
                work_dir=str(folder / 'work_dir'),
                experiment_name=folder.name,
                log_level='WARNING',
                model=dict(
                    backbone=dict(in_channels=channels),
                    data_preprocessor=dict(
                        mean=[110.0] * channels, std=[60.0] * channels
                    ),
                ),
                train_cfg=dict(max_iters=2, val_interval=2),
                default_hooks=dict(
                    checkpoint=dict(interval=2, save_best=None),
                    visualization=dict(
                        type='mmfaseg.DrawSegmentationHook',
                        draw=True,
                        interval=1,
                    ),
                ),
            )
        )
        labels = dict(type='LoadAnnotations')
        pack = dict(type='PackSegInputs')
        steps = [
            dict(type='RandomResize', scale=SIZE, ratio_range=(1.0, 1.5)),
            dict(type='RandomCrop', crop_size=(64, 64)),
            dict(type='RandomFlip', prob=0.5),
        ]
        meta = dict(classes=list('abcdefg'), palette=[[9, 9, 9]] * 7)
        for name in ('train', 'val', 'test'):
            used = steps if name == 'train' else []
            loading = cfg[f'{name}_dataloader']
            loading.update(
                batch_size=2 if name == 'train' else 1,
                num_workers=0,
                persistent_workers=False,
            )
            loading.dataset = dict(
                type='BaseSegDataset',
                data_root=str(folder),
                data_prefix=dict(img_path='images', seg_map_path='masks'),
                img_suffix=suffix,
                metainfo=meta,
                pipeline=[loader, labels, *used, pack],
            )
        cfg.custom_hooks = [dict(type='mmfaseg.FocusHook', indices=[0])]
        self.cfg = cfg
        Runner.from_cfg(cfg).train()
        self.work_dir = folder / 'work_dir'
        self.inferencer = FASegInferencer(self.work_dir, device='cpu')


@pytest.fixture(scope='module', params=[1, 4, 6])
def trained(request, root, tmp_path_factory):
    return Trained(
        root, tmp_path_factory.mktemp(f'c{request.param}'), request.param
    )


def test_file_and_array_give_equal_labels(trained):
    from_file, from_array = trained.inferencer([trained.image, trained.array])
    assert from_file.labels.shape == SIZE
    assert np.array_equal(from_file.labels, from_array.labels)
    # each channel counts
    changed = trained.array.copy()
    view = changed if changed.ndim == 2 else changed[..., -1]
    view[:] = view.max() - view
    before, after = trained.inferencer(
        [trained.array, changed], probabilities=True
    )
    assert np.abs(before.probabilities - after.probabilities).max() > 0


def test_command_line_segments_the_folder(trained, tmp_path):
    """Also images whose suffix is that of the dataset."""
    command = [trained.work_dir, trained.images, '--out', tmp_path]
    options = ['--device', 'cpu', '--focus']
    infer_main([*map(str, [*command, *options])])
    for folder in ('labels', 'overlay', 'focus'):
        names = sorted(x.name for x in (tmp_path / folder).iterdir())
        assert names == ['0.png', '1.png']
    overlay = np.asarray(Image.open(tmp_path / 'overlay/0.png'))
    assert overlay.shape == (*SIZE, 3) and overlay.std() > 5


def test_array_of_other_channels_raises_with_both_counts(trained):
    wrong = np.zeros((64, 64, 5), np.uint8)
    message = f'has 5 channels.* model takes {trained.channels}:'
    with pytest.raises(ValueError, match=message):
        trained.inferencer(wrong)
    with pytest.raises(ValueError, match=message):
        trained.inferencer.explore(wrong)


def test_explore_writes_a_page(trained, tmp_path):
    out = tmp_path / 'focus.html'
    command = [trained.work_dir, trained.image, '--out', out]
    explore_main([*map(str, command), '--device', 'cpu'])
    assert 'id="data"' in out.read_text(encoding='utf-8')
    view = trained.inferencer.explore(trained.image)
    shown = trained.array
    if trained.channels == 1:
        assert (view.image == shown[..., None]).all()
    elif trained.channels == 4:
        assert (view.image == shown[..., 2::-1]).all()
    else:
        assert view.image.max() == 255


def test_server_explores_example_and_upload(trained, serve):
    from mmfaseg.apis.explorer_server import make_app

    app = make_app({'model': trained.inferencer}, [trained.image])
    found = []
    upload = f'?name={trained.image.name}', trained.image.read_bytes()
    with serve(app) as address:
        for place, body in (('/0', b''), upload):
            url = f'{address}/explore{place}'
            request = urllib.request.Request(url, body, method='POST')
            with urllib.request.urlopen(request, timeout=60) as answer:
                found.append(json.load(answer))
    assert found[0] == found[1] and 'models' in found[0]


def test_focus_hook_and_drawings_are_logged(trained):
    (scalars,) = trained.work_dir.glob('*/vis_data/scalars.json')
    assert 'focus/entropy' in scalars.read_text()
    (images,) = trained.work_dir.glob('*/vis_data/vis_image')
    names = ' '.join(sorted(x.name for x in images.iterdir()))
    assert 'focus_0_' in names
    assert re.search(r'val_\S*0\S*', names)


def test_write_figures_draws_predictions(trained, tmp_path):
    from mmengine.registry import DATASETS

    from mmfaseg.visualization import write_figures

    dataset = DATASETS.build(trained.cfg.test_dataloader.dataset)
    written = write_figures(trained.inferencer.model, dataset, tmp_path, [0])
    assert [x.name for x in written] == ['predictions.png', 'focus.png']


def test_flops_grow_with_the_channels(trained, root, monkeypatch):
    monkeypatch.syspath_prepend(root / 'tools/analysis_tools')
    tool = importlib.import_module('get_flops')
    color = Config.fromfile(root / CONFIG)
    counts = [
        tool.analyze(cfg, (64, 64)).total()
        for cfg in (color, trained.cfg.copy())
    ]
    # the stem has 32 filters of 7x7 with stride 2
    added = (trained.channels - 3) * 7 * 7 * 32 * (64 // 2) ** 2
    assert counts[1] - counts[0] == added


@pytest.mark.parametrize(
    ('model', 'expected'),
    [
        (dict(data_preprocessor=dict(mean=[0] * 5), backbone=dict()), 5),
        (dict(backbone=dict(in_channels=4)), 4),
        (dict(data_preprocessor=None, backbone=dict()), 3),
        (
            dict(
                data_preprocessor=dict(mean=[127.5]),
                backbone=dict(in_channels=1),
            ),
            1,
        ),
    ],
)
def test_channels_come_from_mean_then_backbone(model, expected):
    assert input_channels(model) == expected


def test_unreadable_file_raises_with_loader(trained, tmp_path):
    path = tmp_path / trained.image.name
    path.write_bytes(b'broken')
    name = LOADERS[trained.channels][0]['type']
    with pytest.raises(ValueError, match=rf'{path}.* by {name}: '):
        trained.inferencer(path)


def test_video_frames_become_gray_or_raise(trained, tmp_path):
    path = tmp_path / 'clip.avi'
    fourcc = cv2.VideoWriter.fourcc(*'MJPG')
    writer = cv2.VideoWriter(str(path), fourcc, 5, (96, 64))
    writer.write(generate_shapes(0, 'test', SIZE)[0])
    writer.release()
    if trained.channels == 1:
        (found,) = trained.inferencer(path, overlay=True)
        assert found.overlay.shape == (*SIZE, 3)
        return
    with pytest.raises(ValueError, match='have 3 channels'):
        trained.inferencer(path)


def test_channels_are_counted_after_the_test_pipeline(tmp_path):
    """Its steps may select channels, as ``RGB2Gray`` does."""
    path = tmp_path / 'color.png'
    Image.new('RGB', (9, 7)).save(path)
    loader = ImageLoader(1, TRANSFORMS.build(dict(type='LoadImageFromFile')))
    assert loader.load(path).shape == (7, 9, 3)
    loader.check_input(1, 'color')
    message = 'color has 3 channels after the test pipeline, .* takes 1'
    with pytest.raises(ValueError, match=message):
        loader.check_input(3, 'color')
