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
    corrupt,
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
@pytest.mark.parametrize('name', ALL)
def test_every_corruption_takes_small_images(library, name, size, capsys):
    for severity in range(1, 6):
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
        assert (image != clean).any()
    # where the library has to make do it prints a line
    assert capsys.readouterr().out == ''


@pytest.mark.parametrize('name', ALL)
def test_corruption_does_not_depend_on_random_state(library, name):
    np.random.seed(0)
    first = ImageCorruption(name, 3)(_entry())['img']
    np.random.seed(1)
    ImageCorruption(name, 3)(_entry(4))
    again = ImageCorruption(name, 3)(_entry())['img']
    np.testing.assert_array_equal(first, again)


@pytest.mark.parametrize('name', ['impulse_noise', 'glass_blur', 'fog'])
def test_corruption_depends_on_image_and_seed(library, name):
    image = _entry()['img']
    results = [
        ImageCorruption(name, 3, seed)(dict(img=image, img_path=path))['img']
        for path, seed in [('a/b/1.png', 0), ('a/b/2.png', 0), ('b/1.png', 1)]
    ]
    for i, j in ((0, 1), (0, 2), (1, 2)):
        assert (results[i] != results[j]).any()


def test_corruption_does_not_depend_on_root_folder(library):
    image = _entry()['img']
    paths = '/data/val/x/1.png', r'D:\other\x\1.png', 'x/1.png'
    first, *others = (
        ImageCorruption('shot_noise')(dict(img=image, img_path=path))['img']
        for path in paths
    )
    for other in others:
        np.testing.assert_array_equal(first, other)


def test_global_random_state_is_unchanged(library):
    for name in ALL:
        np.random.seed(5)
        expected = np.random.random(3)
        np.random.seed(5)
        ImageCorruption(name)(_entry())
        np.testing.assert_array_equal(np.random.random(3), expected)


def test_channel_order_is_bgr(library):
    """Frost is bluish, and large pixels of one colour are that colour."""
    image = np.full((64, 64, 3), 90, np.uint8)
    images = [
        ImageCorruption('frost', 5)(dict(img=image, img_path=f'x/{i}.png'))[
            'img'
        ]
        for i in range(20)
    ]
    blue, _, red = np.mean(images, axis=(0, 1, 2))
    assert blue > red
    image = image + np.uint8([100, 50, 0])
    entry = dict(img=image, img_path='x/0.png')
    np.testing.assert_array_equal(
        ImageCorruption('pixelate')(entry)['img'], image
    )


def test_input_image_is_not_modified(library):
    entry = _entry()
    image, before = entry['img'], entry['img'].copy()
    for name in ALL:
        ImageCorruption(name, 5)(dict(entry))
    np.testing.assert_array_equal(image, before)


@pytest.mark.parametrize('name', ['gaussian_noise', 'glass_blur'])
def test_workers_see_the_same_corruption(library, name):
    pipeline = [
        dict(type='mmfaseg.GenerateShapes'),
        dict(type='mmfaseg.ImageCorruption', corruption=name, severity=2),
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


@pytest.mark.parametrize(
    ('names', 'chosen'),
    [
        (['common'], ALL[:15]),
        (['all'], ALL),
        (['fog', 'noise'], [*ALL[:3], 'fog']),
        (['extra', 'saturate', 'fog'], ['fog', *ALL[15:]]),
    ],
)
def test_corruptions_have_fixed_order(names, chosen):
    assert choose_corruptions(names) == chosen


def test_unknown_corruption_raises_with_known_names():
    with pytest.raises(ValueError, match=r"'fgo'.*gaussian_noise.*weather"):
        choose_corruptions(['snow', 'fgo'])
    with pytest.raises(ValueError, match=r"'weather'.*gaussian_noise"):
        ImageCorruption('weather')
    with pytest.raises(ValueError, match=r'severity.*6'):
        ImageCorruption('fog', 6)


def test_missing_library_raises(monkeypatch):
    def missing(name):
        raise ImportError(f'No module named {name!r}')

    monkeypatch.setattr(corrupt, 'import_module', missing)
    with pytest.raises(ImportError, match=r'pip install .*imagecor'):
        ImageCorruption('fog')


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        (dict(img=np.zeros((40, 40, 3), np.float32)), 'float32.*to_float32'),
        (dict(img=np.zeros((40, 40), np.uint8)), 'three channels'),
        (dict(img=np.zeros((40, 31, 3), np.uint8)), '32x32.*got 40x31'),
        (dict(img_path=None), 'img_path is None'),
    ],
)
def test_unsupported_input_raises(library, changes, message):
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
