from types import SimpleNamespace

import mmcv
import numpy as np
import pytest
import torch
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample
from mmseg.visualization import SegLocalVisualizer

from mmfaseg.engine import DrawSegmentationHook

pytestmark = pytest.mark.smoke
RED = (200, 20, 10)


def make_sample(size, **meta):
    sample = SegDataSample(metainfo={'ori_shape': size, **meta})
    label = torch.zeros(1, *size, dtype=torch.long)
    sample.set_data({'pred_sem_seg': PixelData(data=label)})
    return sample


def red_inputs(size):
    """Returns the network input of a red image: BGR, (3, H, W)."""
    bgr = torch.tensor(RED[::-1], dtype=torch.uint8)
    return bgr[:, None, None].expand(3, *size).contiguous()


@pytest.fixture
def drawn(monkeypatch):
    """Records the calls of the visualizer."""
    calls = []

    def remember(self, name, image, **settings):
        calls.append((name, image, settings['data_sample']))

    monkeypatch.setattr(SegLocalVisualizer, 'add_datasample', remember)
    visualizer = SegLocalVisualizer()
    monkeypatch.setattr(
        'mmengine.visualization.Visualizer.get_current_instance',
        lambda: visualizer,
    )
    return calls


def draw(inputs, samples, folder='', **arguments):
    hook = DrawSegmentationHook(**{'draw': True, 'interval': 1, **arguments})
    dataset = SimpleNamespace(data_prefix=dict(img_path=str(folder)))
    loader = SimpleNamespace(dataset=dataset)
    runner = SimpleNamespace(iter=7, test_dataloader=loader)
    hook.before_test(runner)
    hook.after_test_iter(runner, 0, {'inputs': inputs}, samples)


@pytest.mark.parametrize(
    'meta', [{}, {'img_path': 'shapes://val/000003'}, {'img_path': 'no.png'}]
)
def test_image_without_file_is_made_from_inputs(drawn, meta):
    draw([red_inputs((8, 12))], [make_sample((16, 24), **meta)])
    ((name, image, _),) = drawn
    assert image.shape == (16, 24, 3)
    assert image.dtype == np.uint8
    assert (image == RED).all()
    assert name.startswith('test_')


def test_only_the_main_process_draws(drawn, monkeypatch):
    place = 'mmfaseg.engine.hooks.draw_segmentation_hook'
    warnings = []
    monkeypatch.setattr(f'{place}.get_world_size', lambda: 2)
    monkeypatch.setattr(
        f'{place}.print_log', lambda text, **_: warnings.append(text)
    )
    for is_main in (False, True):
        monkeypatch.setattr(f'{place}.is_main_process', lambda x=is_main: x)
        draw([red_inputs((8, 8))], [make_sample((8, 8))])
        assert len(drawn) == is_main
    assert 'only the images of the main process' in warnings[0]


def test_every_sample_of_a_batch_is_drawn(drawn):
    inputs = [red_inputs((8, 8)), torch.zeros(3, 8, 8, dtype=torch.uint8)]
    draw(inputs, [make_sample((8, 8)), make_sample((8, 8))])
    assert len({name for name, _, _ in drawn}) == 2
    assert (drawn[0][1] == RED).all() and (drawn[1][1] == 0).all()


def test_image_file_takes_precedence(drawn, tmp_path):
    path = str(tmp_path / 'gray.png')
    mmcv.imwrite(np.full((6, 9, 3), 77, np.uint8), path)
    draw([red_inputs((6, 9))], [make_sample((6, 9), img_path=path)])
    ((name, image, _),) = drawn
    assert (image == 77).all()
    assert name == 'test_gray'


def test_first_view_is_drawn_under_test_time_augmentation(drawn):
    views = [[red_inputs((8, 8))], [red_inputs((8, 8)) * 0]]
    draw(views, [make_sample((8, 8))])
    assert (drawn[0][1] == RED).all()


def test_interval_and_draw_are_respected(drawn):
    draw([red_inputs((8, 8))], [make_sample((8, 8))], interval=2)
    with pytest.warns(UserWarning, match='draw is False'):
        draw([red_inputs((8, 8))], [make_sample((8, 8))], draw=False)
    assert drawn == []


def test_file_that_opencv_cannot_decode_is_drawn_from_inputs(drawn, tmp_path):
    path = tmp_path / 'six.npy'
    np.save(path, np.zeros((8, 8, 6), np.uint16))
    inputs = torch.cat([red_inputs((8, 8)), torch.zeros(3, 8, 8).byte()])
    draw([inputs], [make_sample((8, 8), img_path=str(path))])
    assert (drawn[0][1] == RED).all()


def test_mmseg_visualizer_draws(tmp_path, monkeypatch):
    visualizer = SegLocalVisualizer(
        name='stock',
        vis_backends=[{'type': 'LocalVisBackend'}],
        save_dir=str(tmp_path),
        alpha=0.5,
    )
    visualizer.dataset_meta = {'classes': ['road'], 'palette': [[0, 0, 255]]}
    monkeypatch.setattr(
        'mmengine.visualization.Visualizer.get_current_instance',
        lambda: visualizer,
    )
    draw([red_inputs((32, 48))], [make_sample((32, 48))])
    (path,) = tmp_path.rglob('*.png')
    image = mmcv.imread(path, channel_order='rgb')
    assert image.shape == (32, 48, 3)
    assert tuple(image[-1, -1]) == (100, 10, 132)


def test_equal_names_in_different_folders_stay_different(drawn, tmp_path):
    paths = [str(tmp_path / x) for x in ('a/1.png', 'b/1.png', 'a_1.png')]
    inputs = [red_inputs((4, 4))] * 3
    samples = [make_sample((4, 4), img_path=x) for x in paths]
    draw(inputs[:2], samples[:2], tmp_path)
    assert [name for name, _, _ in drawn] == ['test_a_1', 'test_b_1']
    with pytest.raises(ValueError, match="same output name 'a_1'"):
        draw(inputs, samples, tmp_path)
