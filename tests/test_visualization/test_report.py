from types import SimpleNamespace

import numpy as np
import pytest
import torch
from mmengine.structures import PixelData
from mmseg.models import SegDataPreProcessor
from mmseg.structures import SegDataSample
from PIL import Image

from mmfaseg.visualization import network_picture, write_report
from mmfaseg.visualization.report import spread_indices

pytestmark = pytest.mark.smoke


class Pictures:
    """Three red pictures of 48 x 64 pixels, annotated at twice the size."""

    metainfo = {
        'classes': ('road', 'sky', 'tree'),
        'palette': [[250, 0, 0], [0, 250, 0], [0, 0, 250]],
    }
    ignore_index = 255

    def __len__(self):
        return 3

    def __getitem__(self, index):
        sample = SegDataSample(metainfo={'ori_shape': (96, 128)})
        truth = torch.zeros(1, 96, 128, dtype=torch.long)
        truth[:, : 20 * index] = 2
        sample.gt_sem_seg = PixelData(data=truth)
        inputs = torch.zeros(3, 48, 64, dtype=torch.uint8)
        inputs[2] = 200
        return {'inputs': inputs, 'data_samples': sample}


class Network:
    """Knows the truth, and looks where the hand-made trace says."""

    def __init__(self, trace):
        self.data_preprocessor = SegDataPreProcessor(
            mean=[0.0, 0.0, 0.0],
            std=[1.0, 1.0, 1.0],
            bgr_to_rgb=True,
            test_cfg={'size_divisor': 32},
        )
        self.decode_head = SimpleNamespace()
        if trace is not None:
            self.decode_head.trace = trace

    def eval(self):
        return self

    def test_step(self, data):
        (sample,) = data['data_samples']
        sample.pred_sem_seg = PixelData(data=sample.gt_sem_seg.data.clone())
        return [sample]

    def extract_feat(self, inputs):
        return inputs


def test_both_pictures_are_written(tmp_path, output_of):
    seen = []

    def trace(feats):
        seen.append(feats)
        return output_of((48, 64), grid=(2, 4))

    written = write_report(Network(trace), Pictures(), tmp_path)
    assert [path.name for path in written] == ['predictions.png', 'focus.png']
    for path in written:
        with Image.open(path) as image:
            assert image.size[0] > 500
    (inputs,) = seen  # normalised, RGB, padded to a multiple of 32
    assert inputs.shape == (1, 3, 64, 64)
    assert inputs[0, 0, :48].eq(200).all() and inputs[0, 1:].eq(0).all()


def test_a_head_without_trace_gets_predictions_only(tmp_path):
    written = write_report(Network(None), Pictures(), tmp_path, [2])
    assert [path.name for path in written] == ['predictions.png']


@pytest.mark.parametrize('index', [-1, 3])
def test_unknown_pictures_are_refused(tmp_path, index):
    with pytest.raises(IndexError, match=r'choose from 0\.\.2'):
        write_report(Network(None), Pictures(), tmp_path, [index])


def test_indices_are_spread_over_the_data_set():
    assert spread_indices(101, 6) == [0, 20, 40, 60, 80, 100]
    assert spread_indices(3, 6) == [0, 1, 2]
    with pytest.raises(ValueError, match='of 0 pictures'):
        spread_indices(0, 6)


def test_network_input_becomes_an_rgb_picture():
    inputs = Pictures()[0]['inputs']
    picture = network_picture(inputs, (96, 128))
    assert picture.shape == (96, 128, 3) and picture.dtype == np.uint8
    assert (picture == (200, 0, 0)).all()
    with pytest.raises(ValueError, match='unbatched'):
        network_picture(inputs[None])
    with pytest.raises(TypeError, match='float32'):
        network_picture(inputs.float())
