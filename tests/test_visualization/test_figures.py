from types import SimpleNamespace

import numpy as np
import pytest
import torch
from mmdet.structures import DetDataSample
from mmdet.structures.mask import BitmapMasks
from mmengine.structures import InstanceData, PixelData
from mmseg.models import SegDataPreProcessor
from mmseg.structures import SegDataSample
from PIL import Image

from mmfaseg.visualization import (
    dataset_palette,
    draw_objects,
    figures,
    image_to_rgb,
    inputs_to_image,
    write_figures,
)
from mmfaseg.visualization.explorer import exploration
from mmfaseg.visualization.figures import _panoptic_objects, split_labels

pytestmark = pytest.mark.smoke


class ImageDataset:
    """Three red images of 48 x 64 pixels, annotated at twice the size."""

    metainfo = {
        'classes': ('road', 'sky', 'tree'),
        'palette': [[250, 0, 0], [0, 250, 0], [0, 0, 250]],
    }
    ignore_index = 255

    def __len__(self):
        return 3

    def __getitem__(self, index):
        sample = SegDataSample(metainfo={'ori_shape': (96, 128)})
        ground_truth = torch.zeros(1, 96, 128, dtype=torch.long)
        ground_truth[:, : 20 * index] = 2
        sample.gt_sem_seg = PixelData(data=ground_truth)
        inputs = torch.zeros(3, 48, 64, dtype=torch.uint8)
        inputs[2] = 200
        return {'inputs': inputs, 'data_samples': sample}


class Network:
    """Predicts the ground truth; its decoder returns a given trace."""

    def __init__(self, trace):
        self.data_preprocessor = SegDataPreProcessor(
            mean=[0.0, 0.0, 0.0],
            std=[1.0, 1.0, 1.0],
            bgr_to_rgb=True,
            test_cfg={'size_divisor': 32},
        )
        self.decode_head = SimpleNamespace(trace=trace)

    def eval(self):
        return self

    def test_step(self, data):
        (sample,) = data['data_samples']
        sample.pred_sem_seg = PixelData(data=sample.gt_sem_seg.data.clone())
        return [sample]

    def extract_feat(self, inputs):
        return inputs


@pytest.fixture(autouse=True)
def _given_trace(monkeypatch):
    """``trace`` of the head replaces the trace of its decoder."""

    def find_traceable_head(model):
        if model.decode_head.trace is None:
            raise ValueError('has no FASegDecoder')
        return model.decode_head

    for module in (figures, exploration):
        monkeypatch.setattr(module, 'find_traceable_head', find_traceable_head)
    monkeypatch.setattr(
        exploration, 'trace_head', lambda head, feats: head.trace(feats)
    )


def test_both_figures_are_written(tmp_path, output_of):
    seen = []

    def trace(feats):
        seen.append(feats)
        return output_of((48, 64), grid=(2, 4))

    written = write_figures(Network(trace), ImageDataset(), tmp_path)
    assert [path.name for path in written] == ['predictions.png', 'focus.png']
    for path in written:
        with Image.open(path) as image:
            assert image.size[0] > 500
    (inputs,) = seen  # normalized, RGB, padded to a multiple of 32
    assert inputs.shape == (1, 3, 64, 64)
    assert inputs[0, 0, :48].eq(200).all() and inputs[0, 1:].eq(0).all()


def test_head_without_decoder_draws_predictions_only(tmp_path):
    written = write_figures(Network(None), ImageDataset(), tmp_path, [2])
    assert [path.name for path in written] == ['predictions.png']


def test_wrapped_dataset_is_drawn(tmp_path, monkeypatch):
    ignored = []
    split = figures.split_labels
    monkeypatch.setattr(
        figures,
        'split_labels',
        lambda labels, x: ignored.append(x) or split(labels, x),
    )

    class Wrapper:
        dataset = ImageDataset()
        metainfo = dataset.metainfo

        def __len__(self):
            return len(self.dataset)

        def __getitem__(self, index):
            return self.dataset[index]

    Wrapper.dataset.ignore_index = 7
    written = write_figures(Network(None), Wrapper(), tmp_path, [2])
    assert [path.name for path in written] == ['predictions.png']
    assert ignored == [7]


def test_images_without_labels_raise(tmp_path, monkeypatch):
    item = ImageDataset()[0]
    del item['data_samples'].gt_sem_seg
    monkeypatch.setattr(ImageDataset, '__getitem__', lambda *_: item)
    monkeypatch.setattr(
        Network, 'test_step', lambda *_: [item['data_samples']]
    )
    with pytest.raises(ValueError, match='have no labels: add Load'):
        write_figures(Network(None), ImageDataset(), tmp_path, [0])


@pytest.mark.parametrize('index', [-1, 3])
def test_index_out_of_range_raises(tmp_path, index):
    with pytest.raises(ValueError, match=r'choose from 0\.\.2'):
        write_figures(Network(None), ImageDataset(), tmp_path, [index])


def test_images_are_spread_over_the_dataset(tmp_path, monkeypatch):
    indices, item = [], ImageDataset()[1]

    def read(self, index):
        indices.append(index)
        return item

    monkeypatch.setattr(ImageDataset, '__len__', lambda self: 101)
    monkeypatch.setattr(ImageDataset, '__getitem__', read)
    write_figures(Network(None), ImageDataset(), tmp_path)
    assert indices == [0, 20, 40, 60, 80, 100]


def test_network_input_is_converted_to_rgb():
    inputs = ImageDataset()[0]['inputs']
    image = inputs_to_image(inputs, (96, 128))
    assert image.shape == (96, 128, 3) and image.dtype == np.uint8
    assert (image == (200, 0, 0)).all()
    assert (inputs_to_image(inputs.float() + 0.2, (96, 128)) == image).all()


@pytest.mark.parametrize('dtype', [np.uint16, np.float32, np.float64])
def test_first_channels_are_shown_scaled_to_8_bits(dtype):
    image = np.zeros((10, 20, 6), dtype)
    image[..., 0] = np.linspace(0, 4000, 200).reshape(10, 20)  # blue
    image[..., 1] = 4000
    image[..., 3:] = 9000  # not shown
    shown = image_to_rgb(image)
    assert shown.dtype == np.uint8 and shown.shape == (10, 20, 3)
    assert (shown[..., 1] == 255).all() and (shown[..., 0] == 0).all()
    assert shown[0, 0, 2] == 0 and shown[-1, -1, 2] == 255
    assert 120 < shown[5, 0, 2] < 136


@pytest.mark.parametrize('shape', [(4, 5), (4, 5, 1), (4, 5, 2)])
def test_one_channel_is_shown_as_gray(shape):
    image = np.full(shape, 7, np.uint8)
    image[2] = 90
    shown = image_to_rgb(image)
    assert shown.shape == (4, 5, 3)
    assert (shown[2] == 90).all() and (shown[3] == 7).all()


def test_images_without_contrast_or_finite_values_are_shown():
    constant = np.full((4, 4, 3), 3000, np.uint16)
    assert image_to_rgb(constant).max() == 0
    assert image_to_rgb(np.full((4, 4), np.nan)).max() == 0
    unit = np.float32([[0, 0.25], [0.5, 1]])  # not 0 to 255
    assert image_to_rgb(unit).max() == 255


def test_label_maps_are_split_into_segments():
    label_map = np.array([[0, 2], [255, 2]])
    segments = split_labels(label_map, 255)
    assert segments.labels.tolist() == [0, 2]
    assert segments.masks.tolist() == [
        [[True, False], [False, False]],
        [[False, True], [False, True]],
    ]


def panoptic_sample(size=(8, 12)):
    """One thing of class 1 on the left, stuff of class 2 on the right."""
    things = np.zeros((1, 4, 6), np.uint8)
    things[:, :, :3] = 1
    label_map = torch.full((1, 4, 6), 2)
    label_map[..., :3] = 1
    label_map[..., 5] = 255
    panoptic = torch.full((1, *size), 3)  # no segment
    panoptic[:, :, :6] = 1 + 5 * 1000
    panoptic[:, :, 6:9] = 2
    return DetDataSample(
        metainfo=dict(ori_shape=size),
        gt_instances=InstanceData(
            labels=torch.tensor([1]), masks=BitmapMasks(things, 4, 6)
        ),
        gt_sem_seg=PixelData(sem_seg=label_map),
        pred_panoptic_seg=PixelData(sem_seg=panoptic),
    )


def test_segments_of_a_panoptic_map_become_objects():
    data = SimpleNamespace(
        metainfo=dict(classes=('a', 'b', 'c'), thing_classes=('a', 'b'))
    )
    ground_truth, found = _panoptic_objects(panoptic_sample(), data)
    assert ground_truth.labels.tolist() == [1, 2]
    assert ground_truth.masks.shape == (2, 8, 12)
    assert ground_truth.masks[0].sum() == 8 * 6
    assert ground_truth.masks[1].sum() == 8 * 4
    assert sorted(found.labels.tolist()) == [1, 2]
    assert found.scores is None
    assert sorted(found.masks.sum((1, 2)).tolist()) == [8 * 3, 8 * 6]
    figure = draw_objects(
        [(np.zeros((8, 12, 3), np.uint8), ground_truth, found)],
        data.metainfo['classes'],
    )
    assert '2 of 2 found, 0 false' in figure.axes[2].get_title()


def test_palette_of_another_length_is_not_used():
    """mmdet keeps the palette of COCO if metainfo has classes only."""
    meta = dict(classes=('a', 'b'), palette=[(1, 2, 3)] * 80)
    palette = dataset_palette(SimpleNamespace(metainfo=meta))
    assert len({tuple(x) for x in palette}) == 2
    meta['palette'] = [(1, 2, 3), (4, 5, 6)]
    assert dataset_palette(SimpleNamespace(metainfo=meta)) == meta['palette']
