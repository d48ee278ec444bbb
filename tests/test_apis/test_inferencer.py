"""Inference from Python and from the command line."""

import shutil
import subprocess
import sys

import cv2
import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.registry import DATASETS, MODELS, init_default_scope
from PIL import Image

from mmfaseg.apis import FASegInferencer, find_model, load_model, read_frames
from mmfaseg.apis.image_loader import ImageLoader, plain_test_pipeline
from mmfaseg.apis.sources import count_frames
from mmfaseg.checkpoints import write_state
from mmfaseg.datasets import ShapesDataset
from mmfaseg.datasets.shapes_generator import generate_shapes

PUBLISHED = 'faseg_efficientnet-lite0_dsb2018'
NAME = 'faseg_r18_1xb8-demo_shapes-128x128'
CLASSES = list(ShapesDataset.METAINFO['classes'])


@pytest.fixture(scope='module')
def inferencer(work_dir):
    return FASegInferencer(work_dir, device='cpu')


@pytest.fixture(scope='module')
def images(tmp_path_factory):
    """A folder with three images, one of another size, and other files."""
    folder = tmp_path_factory.mktemp('images')
    for n, size in enumerate([(64, 96), (64, 96), (96, 64)]):
        image, _ = generate_shapes(n, 'test', size)
        cv2.imwrite(str(folder / f'{n}.png'), image)
    (folder / 'notes.txt').write_text('not an image')
    return folder


@pytest.fixture(scope='module')
def video(tmp_path_factory):
    path = tmp_path_factory.mktemp('video') / 'clip.avi'
    writer = cv2.VideoWriter(
        str(path), cv2.VideoWriter.fourcc(*'MJPG'), 5, (96, 64)
    )
    for n in range(3):
        writer.write(generate_shapes(n, 'test', (64, 96))[0])
    writer.release()
    return path


# predictions


def test_labels_equal_test_loop(inferencer, work_dir):
    """For the same images of the dataset in the config."""
    cfg = Config.fromfile(work_dir / f'{NAME}.py')
    settings = cfg.test_dataloader.dataset
    settings.update(length=2, image_size=(64, 96))
    dataset = DATASETS.build(settings)
    images = [generate_shapes(n, 'test', (64, 96))[0] for n in range(2)]
    found = inferencer(images, batch_size=2)
    assert all(len(np.unique(x.labels)) > 1 for x in found)
    for item, each in zip(dataset, found, strict=False):
        (sample,) = inferencer.model.test_step(pseudo_collate([item]))
        assert np.array_equal(each.labels, sample.pred_sem_seg.data[0])
        assert each.overlay is each.probabilities is each.focus is None


def test_batch_size_does_not_change_results(inferencer, images):
    one = inferencer(images, batch_size=1)
    three = inferencer(images, batch_size=3)
    assert [x.name for x in one] == [x.name for x in three] == list('012')
    for a, b in zip(one, three, strict=True):
        assert (a.labels != b.labels).mean() < 1e-3
    assert [x.labels.shape for x in one] == [(64, 96), (64, 96), (96, 64)]


def test_prediction_does_not_wait_for_the_next_image(
    inferencer, images, tmp_path
):
    broken = tmp_path / 'broken.png'
    broken.write_bytes(b'')
    found = inferencer.iterate([images / '0.png', broken])
    assert next(found).name == '0'
    with pytest.raises(ValueError, match=r'broken\.png cannot be read'):
        next(found)


def test_probabilities_sum_to_one_and_match_labels(inferencer, images):
    (found,) = inferencer(images / '2.png', probabilities=True)
    assert found.probabilities.shape == (7, 96, 64)
    assert np.allclose(found.probabilities.sum(0), 1, atol=1e-5)
    assert np.array_equal(found.probabilities.argmax(0), found.labels)


def test_overlay_blends_image_and_colors(inferencer):
    black = np.zeros((64, 64, 3), np.uint8)
    (found,) = inferencer(black, overlay=True)
    colors = np.asarray(inferencer.palette)[found.labels]
    assert np.allclose(found.overlay, 0.55 * colors, atol=0.51)


def test_focus_is_a_figure(inferencer, images):
    (found,) = inferencer(images / '0.png', focus=True)
    assert len(found.focus.axes) >= 4


def test_files_are_written(inferencer, images, tmp_path):
    found = inferencer(
        str(images),
        out_dir=tmp_path,
        overlay=True,
        probabilities=True,
        focus=True,
    )
    for each in found:
        image = Image.open(tmp_path / f'labels/{each.name}.png')
        assert image.mode == 'P'
        assert np.array_equal(np.asarray(image), each.labels)
        color = np.asarray(image.convert('RGB'))[0, 0]
        assert color.tolist() == inferencer.palette[each.labels[0, 0]]
        overlay = Image.open(tmp_path / f'overlay/{each.name}.png')
        assert np.array_equal(np.asarray(overlay), each.overlay)
        with np.load(tmp_path / f'probabilities/{each.name}.npz') as file:
            assert np.allclose(
                file['probabilities'], each.probabilities, atol=1e-3
            )
        assert (tmp_path / f'focus/{each.name}.png').is_file()


def test_video_input_writes_video(inferencer, video, tmp_path):
    found = inferencer(video, out_dir=tmp_path, overlay=True)
    assert [x.name for x in found] == [f'clip_00000{n}' for n in range(3)]
    assert len(list((tmp_path / 'labels').iterdir())) == 3
    assert [x.name for x in (tmp_path / 'overlay').iterdir()] == ['clip.mp4']
    capture = cv2.VideoCapture(str(tmp_path / 'overlay/clip.mp4'))
    assert capture.get(cv2.CAP_PROP_FRAME_COUNT) == 3
    assert capture.get(cv2.CAP_PROP_FPS) == 5


def test_inference_does_not_change_model_settings(inferencer, images):
    before = dict(inferencer.model.test_cfg)
    inferencer(images / '0.png')
    assert dict(inferencer.model.test_cfg) == before


def test_invalid_arguments_raise(inferencer, images):
    with pytest.raises(ValueError, match='batch_size must be at least 1'):
        inferencer(images, batch_size=0)


# images


def test_sources_of_all_kinds(images, video):
    gray = np.full((8, 9), 200, np.uint8)
    sources = [images, str(images / '[01].png'), video, gray, gray]
    names = [x.name for x in read_frames(sources)]
    assert names == [
        *('0', '1', '2', '0_2', '1_2'),
        *(f'clip_00000{n}' for n in range(3)),
        *('array_000003', 'array_000004'),
    ]
    assert count_frames(sources) == len(names)
    assert count_frames([gray, 'webcam']) is None
    *_, last = read_frames(sources)
    assert last.image.shape == (8, 9, 3)


def test_folder_skips_hidden_files(tmp_path):
    for name in ('.cache/1.png', '.1.png', 'a/1.png'):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        Image.new('RGB', (40, 56)).save(path)
    assert [x.name for x in read_frames(tmp_path)] == ['a/1']


@pytest.mark.parametrize('out', ['.', 'out'])
def test_earlier_results_are_not_read(inferencer, images, tmp_path, out):
    images = shutil.copytree(images, tmp_path / 'images')
    out_dir = images / out
    for pattern in (images, str(images / '**/*.png')):
        found = inferencer(pattern, out_dir=out_dir, overlay=True, focus=True)
        assert [x.name for x in found] == ['0', '1', '2']
    with pytest.raises(FileNotFoundError, match='besides earlier results'):
        inferencer(out_dir / 'labels', out_dir=out_dir)
    # results of another model
    assert len(inferencer(out_dir / 'labels', out_dir=tmp_path)) == 3


@pytest.mark.parametrize('mode', ['L', 'P', 'RGBA', 'CMYK', '1', 'I;16'])
def test_images_of_all_modes(tmp_path, mode):
    image = Image.fromarray(generate_shapes(0, 'test', (40, 56))[0])
    if mode == 'I;16':
        image = Image.fromarray(np.asarray(image)[..., 0].astype('uint16') * 9)
    else:
        image = image.convert(mode)
    path = tmp_path / ('x.tif' if mode == 'CMYK' else 'x.png')
    image.save(path)
    (frame,) = read_frames(path)
    assert frame.image.shape == (40, 56, 3)
    assert frame.image.dtype == np.uint8
    assert frame.image.std() > 0


@pytest.mark.parametrize(
    ('source', 'error', 'message'),
    [
        ('nowhere.png', FileNotFoundError, 'no file or folder nowhere.png'),
        ('*.nothing', FileNotFoundError, 'contains no file that ends in'),
        (1.5, TypeError, 'float is not supported as a source'),
        (np.zeros((4, 4)), TypeError, 'must have dtype uint8, got float64'),
        (np.zeros((4, 4, 4), np.uint8), ValueError, r'\(4, 4, 4\)'),
    ],
)
def test_invalid_sources_raise(source, error, message):
    with pytest.raises(error, match=message):
        list(read_frames(source))


@pytest.mark.parametrize('content', [b'broken', b''])
@pytest.mark.parametrize('name', ['x.png', 'x.mp4'])
def test_broken_file_raises_with_its_name(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=f'{name} cannot be'):
        list(read_frames(tmp_path / name))


# models


def test_work_dir_uses_best_checkpoint(work_dir, tmp_path):
    for name in (f'{NAME}.py', 'iter_20.pth'):
        (tmp_path / name).write_bytes((work_dir / name).read_bytes())
    assert find_model(tmp_path)[1].name == 'iter_20.pth'
    (tmp_path / 'best_mIoU_iter_10.pth').write_bytes(b'')
    config, weights = find_model(str(tmp_path))
    assert (config.name, weights.name) == (
        f'{NAME}.py',
        'best_mIoU_iter_10.pth',
    )


def test_published_weights_of_a_work_dir_must_be_unique(work_dir, tmp_path):
    (tmp_path / f'{NAME}.py').write_bytes(
        (work_dir / f'{NAME}.py').read_bytes()
    )
    (tmp_path / 'a.safetensors').touch()
    assert find_model(tmp_path)[1].name == 'a.safetensors'
    (tmp_path / 'b.safetensors').touch()
    with pytest.raises(ValueError, match=r'has 2 files \*\.safetensors'):
        find_model(tmp_path)


def test_config_name_is_resolved(root, work_dir):
    config, weights = find_model(NAME, work_dir / 'iter_20.pth')
    assert config == root / f'configs/faseg/{NAME}.py'
    assert weights == work_dir / 'iter_20.pth'


def test_name_may_omit_schedule_and_crop(root):
    config, weights = find_model(PUBLISHED)
    assert config.parent == root / 'configs/faseg'
    assert config.stem == 'faseg_efficientnet-lite0_1xb4-1k_dsb2018-256x256'
    assert weights == root / f'mmfaseg/weights/{config.stem}.safetensors'
    assert weights.stat().st_size < 10e6
    with pytest.raises(ValueError, match=r'ambiguous: choose from .*-3k_'):
        find_model('faseg_r18_shapes', weights)


def test_published_weights_segment_the_example(root):
    inferencer = FASegInferencer(PUBLISHED)
    (prediction,) = inferencer(root / 'demo/nuclei.png')
    labels = cv2.imread(str(root / 'demo/nuclei_labels.png'), 0)
    found, expected = prediction.labels == 1, labels == 1
    assert inferencer.classes == ['background', 'nucleus']
    assert (found & expected).sum() / (found | expected).sum() > 0.6


def test_missing_device_raises(work_dir, monkeypatch):
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: False)
    with pytest.raises(ValueError, match="'cuda:0' is not available"):
        FASegInferencer(work_dir, device='cuda:0')


def test_missing_models_raise(root, work_dir, tmp_path):
    with pytest.raises(FileNotFoundError, match='or the name of a config'):
        find_model('faseg_r19', 'x.pth')
    with pytest.raises(ValueError, match='also pass a checkpoint'):
        find_model(NAME)
    with pytest.raises(FileNotFoundError, match=r'no file .*x\.pth'):
        find_model(NAME, tmp_path / 'x.pth')
    with pytest.raises(ValueError, match='must hold exactly one config'):
        find_model(tmp_path)
    (tmp_path / 'a.py').write_text('')
    with pytest.raises(FileNotFoundError, match='has no checkpoint'):
        find_model(tmp_path)
    detector = 'faseg_r18_1xb8-demo_shapes-instance-128x128'
    with pytest.raises(ValueError, match='DetInferencer'):
        load_model(detector, work_dir / 'iter_20.pth')


def test_classes_are_those_of_the_config(work_dir, tmp_path):
    """If the checkpoint has no names, unlike in mmseg."""
    state = torch.load(work_dir / 'iter_20.pth', weights_only=True)
    path = tmp_path / 'bare.pth'
    torch.save(dict(state_dict=state['state_dict'], meta={}), path)
    meta = load_model(NAME, path).dataset_meta
    assert meta['classes'] == CLASSES
    assert meta['palette'] == ShapesDataset.METAINFO['palette']
    cfg = Config.fromfile(work_dir / f'{NAME}.py')
    dataset = cfg.test_dataloader.dataset
    cfg.test_dataloader.dataset = dict(
        type='RepeatDataset', times=2, dataset=dataset
    )
    cfg.dump(str(tmp_path / 'wrapped.py'))
    assert load_model(tmp_path / 'wrapped.py', path).dataset_meta == meta


def test_weights_of_another_network_raise(tmp_path):
    path = tmp_path / 'other.pth'
    torch.save(dict(state_dict=dict(a=torch.zeros(1))), path)
    with pytest.raises(ValueError, match=r'other\.pth lacks \d+ weights'):
        load_model(NAME, path)


@pytest.mark.parametrize('format', ['.pth', '.safetensors'])
@pytest.mark.parametrize('harm', ['shape', 'nan', 'inf', 'half', 'none'])
def test_invalid_weights_raise(harm, format, work_dir, tmp_path):
    """mmengine would skip weights of another shape."""
    state = torch.load(work_dir / 'iter_20.pth', weights_only=True)
    state = state['state_dict']
    name = 'decode_head.transformer_decoder.predictor.class_embed.weight'
    why = None
    if harm == 'shape':
        state[name] = state[name][:-1]
        why = rf'1 weights of another shape: {name} is \(\d, \d+\) in the'
    elif harm in ('nan', 'inf'):
        state[name][1, 2] = float(harm)
        why = f'not finite: {name}. Use an older'
    elif harm == 'half':  # loaded as float32
        state = {key: x.half() for key, x in state.items()}
    path = tmp_path / f'harmed{format}'
    write_state(path, state, {})
    if why is None:
        assert load_model(NAME, path).decode_head.num_classes == len(CLASSES)
        return
    with pytest.raises(ValueError, match=why) as raised:
        load_model(NAME, path)
    assert f'harmed{format}' in str(raised.value)


def test_config_of_tta_run_loads(root, work_dir, images, inferencer, tmp_path):
    """tools/test.py --tta writes such a config to the same folder."""
    cfg = Config.fromfile(work_dir / f'{NAME}.py')
    cfg.model = dict(cfg.tta_model, module=cfg.model)
    cfg.test_dataloader.dataset.pipeline = cfg.tta_pipeline
    cfg.dump(str(tmp_path / f'{NAME}.py'))
    weights = (work_dir / 'iter_20.pth').read_bytes()
    (tmp_path / 'iter_20.pth').write_bytes(weights)
    (found,) = FASegInferencer(tmp_path, device='cpu')(images / '0.png')
    (expected,) = inferencer(images / '0.png')
    assert np.array_equal(found.labels, expected.labels)


@pytest.mark.parametrize('channels', [7, 1])
def test_other_heads_return_probabilities(root, tmp_path, images, channels):
    """Heads of mmseg; with one channel, there are two classes."""
    cfg = Config.fromfile(root / 'tests/configs/fcn_shapes.py')
    init_default_scope('mmseg')
    head = cfg.model.decode_head
    if channels == 1:
        head.update(num_classes=2, out_channels=1, threshold=0.4)
        head.loss_decode = dict(type='CrossEntropyLoss', use_sigmoid=True)
    cfg.model.type = 'mmfaseg.MaskEncoderDecoder'
    model = MODELS.build(cfg.model)
    torch.nn.init.normal_(model.decode_head.conv_seg.weight)
    torch.save(dict(state_dict=model.state_dict()), tmp_path / 'iter_1.pth')
    cfg.dump(str(tmp_path / 'fcn.py'))
    (found,) = FASegInferencer(tmp_path, device='cpu')(
        images / '0.png', probabilities=True, overlay=True
    )
    assert found.probabilities.shape == (max(channels, 2), 64, 96)
    assert np.allclose(found.probabilities.sum(0), 1, atol=1e-5)
    assert found.probabilities.min() >= 0
    assert found.labels.dtype == np.int64
    if channels > 1:
        assert np.array_equal(found.probabilities.argmax(0), found.labels)
    else:
        assert np.array_equal(found.probabilities[1] > 0.4, found.labels)


def test_output_names_are_unique(tmp_path):
    for name in ('1.jpg', '1.png', '1_2.png', 'sub/1.png'):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        Image.new('RGB', (8, 8)).save(path)
    names = [x.name for x in read_frames(tmp_path)]
    assert len(set(names)) == 4
    assert 'sub/1' in names


def test_frames_and_images_get_unique_names(video, tmp_path):
    image = tmp_path / 'clip_000001.png'
    Image.new('RGB', (8, 8)).save(image)
    names = [x.name for x in read_frames([video, image])]
    assert names == [
        *(f'clip_00000{n}' for n in range(3)),
        'clip_000001_2',
    ]
    names = [x.name for x in read_frames([image, video])]
    assert names[1:] == ['clip_000000', 'clip_000001_2', 'clip_000002']


def test_numbers_are_cameras_unless_a_file_has_this_name(
    inferencer, tmp_path, monkeypatch
):
    from mmfaseg import infer

    seen = []

    def iterate(inputs, *_, **__):
        seen.extend(inputs)
        yield

    monkeypatch.setattr('mmfaseg.apis.FASegInferencer', lambda *_: inferencer)
    monkeypatch.setattr(inferencer, 'iterate', iterate)
    monkeypatch.chdir(tmp_path)
    (tmp_path / '7').mkdir()
    infer.main(['model', '0', '7', 'a.png'])
    assert seen == [0, '7', 'a.png']


def test_images_are_loaded_as_in_wrapped_test_datasets(work_dir):
    cfg = Config.fromfile(next(work_dir.glob('*.py')))
    (load, *_) = cfg.test_dataloader.dataset.pipeline
    inner = cfg.test_dataloader.dataset
    inner.img_suffix = '.npy'
    cfg.pop('test_pipeline')
    cfg.test_dataloader.dataset = dict(
        type='RepeatDataset', times=2, dataset=inner
    )
    assert '.npy' in ImageLoader.from_config(cfg).suffixes
    assert plain_test_pipeline(cfg) == inner.pipeline
    cfg.test_dataloader.dataset = dict(type='ConcatDataset', datasets=[inner])
    assert '.npy' in ImageLoader.from_config(cfg).suffixes
    assert plain_test_pipeline(cfg) == inner.pipeline
    cfg.pop('test_dataloader')
    cfg.test_pipeline = [load]
    assert plain_test_pipeline(cfg) == [load]
    cfg.pop('test_pipeline')
    with pytest.raises(ValueError, match='set test_pipeline'):
        plain_test_pipeline(cfg)


def test_videos_with_equal_names_get_unique_names(video, tmp_path):
    names = [x.video for x in read_frames([video, str(video)])]
    assert names == ['clip'] * 3 + ['clip_2'] * 3


def test_labels_equal_mmseg_inferencer(inferencer, work_dir, images):
    """With a test pipeline that starts with a file."""
    from mmseg.apis import MMSegInferencer

    config = Config.fromfile(work_dir / f'{NAME}.py')
    config.test_dataloader.dataset.pipeline[0] = dict(type='LoadImageFromFile')
    path = work_dir.parent / 'for_mmseg.py'
    config.dump(str(path))
    theirs = MMSegInferencer(
        str(path), str(work_dir / 'iter_20.pth'), device='cpu'
    )
    image = images / '0.png'
    found = theirs(str(image), return_datasamples=True)
    (ours,) = inferencer(image)
    assert np.array_equal(ours.labels, found.pred_sem_seg.data[0])


@pytest.mark.slow
@pytest.mark.smoke
def test_command_line(work_dir, images, tmp_path, root):
    def call(*arguments):
        return subprocess.run(
            [sys.executable, '-m', 'mmfaseg.infer', *map(str, arguments)],
            cwd=root,
            capture_output=True,
            text=True,
            check=False,
        )

    options = ['--out', tmp_path / 'out', '--device', 'cpu']
    done = call(work_dir, images, *options, '--max-frames', 2)
    assert done.returncode == 0, done.stderr
    assert 'segmented images: 2,' in done.stdout
    assert len(list((tmp_path / 'out/labels').iterdir())) == 2
    assert len(list((tmp_path / 'out/overlay').iterdir())) == 2
    done = call(work_dir, tmp_path / 'nowhere', *options)
    assert done.returncode == 1
    assert done.stderr.strip().splitlines()[-1].startswith('error: there is')
    assert 'Traceback' not in done.stderr
