from types import SimpleNamespace

import numpy as np
import pytest
import torch
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample
from PIL import Image

from mmfaseg.engine import SavePredictionsHook
from mmfaseg.utils.output_names import OutputNames


def make_sample(labels, path, **meta):
    sample = SegDataSample(metainfo=dict(img_path=str(path), **meta))
    data = PixelData(data=torch.tensor(labels)[None])
    sample.set_data(dict(pred_sem_seg=data))
    return sample


class Paths(list):
    """A dataset of image paths."""

    def get_data_info(self, index):
        return dict(img_path=str(self[index]))


def save(out, samples, num_classes=3, **dataset):
    hook = SavePredictionsHook(str(out))
    runner = SimpleNamespace(
        test_dataloader=SimpleNamespace(dataset=SimpleNamespace(**dataset)),
        test_evaluator=SimpleNamespace(
            dataset_meta=dict(classes=['x'] * num_classes)
        ),
    )
    hook.before_test(runner)
    hook.after_test_iter(runner, 0, None, samples)


def read(path):
    return np.asarray(Image.open(path)).tolist()


def test_folders_below_the_images_are_kept(tmp_path):
    images, out = tmp_path / 'images', tmp_path / 'out'
    samples = [
        make_sample([[0, 1]], images / 'a/1.jpg'),
        make_sample([[1, 2]], images / 'b/1.jpg'),
    ]
    save(out, samples, data_prefix=dict(img_path=f'{images}/'))
    assert read(out / 'a/1.png') == [[0, 1]]
    assert read(out / 'b/1.png') == [[1, 2]]


def test_images_with_one_output_name_raise(tmp_path):
    samples = [make_sample([[0]], tmp_path / x) for x in ('1.jpg', '1.png')]
    with pytest.raises(ValueError, match=r"1\.png and .*1\.jpg .* name '1'"):
        save(tmp_path, samples, data_prefix=dict(img_path=str(tmp_path)))


def test_names_are_checked_before_the_test(tmp_path):
    """Also of images that other processes predict."""
    hook = SavePredictionsHook(str(tmp_path))
    paths = Paths([tmp_path / 'a/1.png', tmp_path / 'b/1.png'])
    loader = SimpleNamespace(dataset=paths)
    with pytest.raises(ValueError, match="same output name '1'"):
        hook.before_test(SimpleNamespace(test_dataloader=loader))


@pytest.mark.parametrize(
    ('num_classes', 'dtype'), [(256, np.uint8), (300, np.uint16)]
)
def test_many_classes_are_stored_with_16_bits(tmp_path, num_classes, dtype):
    last = num_classes - 1
    save(tmp_path, [make_sample([[0, last]], 'a.png')], num_classes)
    labels = np.asarray(Image.open(tmp_path / 'a.png'))
    assert labels.tolist() == [[0, last]]
    assert labels.dtype == dtype


def test_labels_are_those_of_the_annotation_files(tmp_path):
    save(tmp_path, [make_sample([[0, 255]], 'a.png')], 256)
    assert read(tmp_path / 'a.png') == [[0, 255]]
    sample = make_sample([[0, 255]], 'a.png', reduce_zero_label=True)
    save(tmp_path, [sample], 256)
    assert read(tmp_path / 'a.png') == [[1, 256]]


def test_names_are_relative_to_the_folder_of_a_wrapped_dataset():
    inner = [
        SimpleNamespace(data_prefix=dict(img_path=x)) for x in ('d', 'd/e')
    ]
    names = OutputNames(
        SimpleNamespace(dataset=SimpleNamespace(datasets=inner))
    )
    assert names('d/x/1.jpg') == 'x/1'
    assert names('d/e/1.jpg') == '1'
    assert names('elsewhere/2.b.jpg') == '2.b'
    assert names('d/x/1.jpg') == 'x/1'  # again
    with pytest.raises(ValueError, match='rename one of them'):
        names('elsewhere/1.jpg')
