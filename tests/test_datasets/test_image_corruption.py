import numpy as np
import pytest
import torch
from mmengine.registry import TRANSFORMS
from mmengine.runner import Runner

from mmfaseg.datasets import ImageCorruption, ShapesDataset
from mmfaseg.datasets.shapes_generator import generate_shapes
from mmfaseg.datasets.transforms import (
    CORRUPTIONS,
    choose_corruptions,
    image_corruption,
)

ALL = [name for group in CORRUPTIONS.values() for name in group]


@pytest.fixture(scope='module')
def library():
    return pytest.importorskip('imagecorruptions')


def _entry(index: int = 3, size: tuple[int, int] = (48, 64)) -> dict:
    image, _ = generate_shapes(index, 'test', size)
    return dict(img=image, img_path=f'shapes://test/{index:06d}')


def test_names_equal_library_names(library):
    assert library.get_corruption_names('all') == ALL
    assert library.get_corruption_names('common') == choose_corruptions(
        ['common']
    )
    for group in ('noise', 'blur', 'weather', 'digital'):
        assert library.get_corruption_names(group) == list(CORRUPTIONS[group])


@pytest.mark.smoke
@pytest.mark.filterwarnings('error::RuntimeWarning')
@pytest.mark.parametrize('size', [(32, 32), (33, 47), (128, 128)])
def test_all_corruptions_of_small_images(library, size, capsys):
    for name in ALL:
        for severity in (1, 3, 5):
            entry = _entry(size=size)
            clean = entry['img'].copy()
            transform = TRANSFORMS.build(
                dict(
                    type='mmfaseg.ImageCorruption',
                    corruption=name,
                    severity=severity,
                )
            )
            image = transform(entry)['img']
            assert (image.shape, image.dtype) == (clean.shape, np.uint8)
            assert image.flags.c_contiguous
            assert (image != clean).any(), name
    # the library prints a line where it uses a fallback
    assert capsys.readouterr().out == ''


def test_corruptions_neither_use_nor_change_the_global_random_state(library):
    entry = _entry()
    image, before = entry['img'], entry['img'].copy()
    for name in ALL:
        results = []
        for state in (0, 1):
            np.random.seed(state)
            expected = np.random.random(3)
            np.random.seed(state)
            results.append(ImageCorruption(name, 3)(dict(entry))['img'])
            np.testing.assert_array_equal(np.random.random(3), expected)
        np.testing.assert_array_equal(*results, err_msg=name)
    np.testing.assert_array_equal(image, before)


def test_corruptions_depend_on_image_name_and_seed(library):
    image = _entry()['img']
    for name in ('impulse_noise', 'glass_blur', 'fog'):
        first, same, *others = (
            ImageCorruption(name, 3, seed)(dict(img=image, img_path=path))[
                'img'
            ]
            for path, seed in [
                ('/data/b/1.png', 0),
                (r'D:\other\b\1.png', 0),
                ('/data/b/2.png', 0),
                ('/data/b/1.png', 1),
            ]
        )
        np.testing.assert_array_equal(first, same)
        for i, other in enumerate(others):
            assert (other != first).any()
            assert all((other != x).any() for x in others[:i])


def test_channel_order_is_bgr(library):
    """Frost is bluish, and pixelation keeps a uniform color."""
    image = np.full((64, 64, 3), 90, np.uint8)
    transform = ImageCorruption('frost', 5)
    images = [
        transform(dict(img=image, img_path=f'x/{i}.png'))['img']
        for i in range(20)
    ]
    blue, _, red = np.mean(images, axis=(0, 1, 2))
    assert blue > red
    image = image + np.uint8([100, 50, 0])
    entry = dict(img=image, img_path='x/0.png')
    result = ImageCorruption('pixelate')(entry)['img']
    np.testing.assert_array_equal(result, image)


def test_corruptions_do_not_depend_on_workers(library):
    pipeline = [
        dict(type='mmfaseg.GenerateShapes'),
        *(
            dict(type='mmfaseg.ImageCorruption', corruption=name, severity=2)
            for name in ('gaussian_noise', 'glass_blur')
        ),
        dict(type='PackSegInputs'),
    ]
    images = []
    for num_workers in (0, 2):
        loader = Runner.build_dataloader(
            dict(
                batch_size=1,
                num_workers=num_workers,
                sampler=dict(type='DefaultSampler', shuffle=bool(num_workers)),
                dataset=ShapesDataset(
                    'test', 4, (32, 32), pipeline=pipeline, test_mode=True
                ),
            ),
            seed=num_workers,
        )
        images.append(
            {
                batch['data_samples'][0].img_path: batch['inputs'][0]
                for batch in loader
            }
        )
    assert len(images[0]) == 4
    torch.testing.assert_close(images[1], dict(images[0]))


def test_corruptions_have_fixed_order():
    for names, chosen in (
        (['common'], ALL[:15]),
        (['all'], ALL),
        (['fog', 'noise'], [*ALL[:3], 'fog']),
        (['extra', 'saturate', 'fog'], ['fog', *ALL[15:]]),
    ):
        assert choose_corruptions(names) == chosen


def test_invalid_arguments_raise():
    with pytest.raises(ValueError, match=r"'fgo'.*gaussian_noise.*weather"):
        choose_corruptions(['snow', 'fgo'])
    with pytest.raises(ValueError, match=r"'weather'.*gaussian_noise"):
        ImageCorruption('weather')
    with pytest.raises(ValueError, match=r'severity.*6'):
        ImageCorruption('fog', 6)


def test_missing_library_raises(monkeypatch):
    def missing(name):
        raise ImportError(f'No module named {name!r}')

    monkeypatch.setattr(image_corruption, 'import_module', missing)
    with pytest.raises(ImportError, match=r'pip install .*imagecor'):
        ImageCorruption('fog')


def test_unsupported_images_raise(library):
    for changes, message in (
        (dict(img=np.zeros((40, 40, 3), 'f4')), r'test/000003.*uint8'),
        (dict(img=np.zeros((40, 40), 'u1')), r'\(H, W, 3\), got \(40, 40\)'),
        (dict(img=np.zeros((40, 40, 1), 'u1')), r'got \(40, 40, 1\)'),
        (dict(img=np.zeros((40, 31, 3), 'u1')), r'\(40, 31, 3\).*32 pixels'),
        (dict(img_path=None), 'img_path is None'),
    ):
        with pytest.raises(ValueError, match=message):
            ImageCorruption('fog')({**_entry(), **changes})


def test_library_failure_raises_with_image_name(library):
    transform = ImageCorruption('fog', 2)

    def fail(*args, **options):
        raise IndexError('out of fog')

    transform._corrupt = fail
    state = np.random.get_state()[1].copy()
    with pytest.raises(ValueError, match=r'fog of.*2.*test/000003.*IndexErr'):
        transform(_entry())
    np.testing.assert_array_equal(np.random.get_state()[1], state)
