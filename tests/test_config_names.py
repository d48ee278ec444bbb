"""Every config is what its name says: data, schedule, backbone, weights."""

import re
from pathlib import Path

import pytest
from experiments import EXPERIMENTS, PATHS, ROOT
from mmengine.config import Config
from mmseg.registry import DATASETS

import mmfaseg  # noqa: F401  registers the data sets

NAME = re.compile(
    r'(?P<row>[a-z0-9-]+)_(?P<backbone>[^_]+)'
    r'_(?P<gpus>\d+)xb(?P<batch>\d+)-(?P<schedule>\w+)'
    r'_(?P<data>[^_]+)-(?P<height>\d+)x(?P<width>\d+)'
    r'(_slide-(?P<window>\d+)x(?P=window))?'
)
DATASET = {
    'ade20k': 'ADE20KDataset',
    'cityscapes': 'CityscapesDataset',
    'coco-stuff164k': 'COCOStuffDataset',
    'pascal-context-59': 'PascalContextDataset59',
    'mapillary-v1-65': 'MapillaryDataset_v1',
    'camvid': 'mmfaseg.CamVidDataset',
    'shapes': 'mmfaseg.ShapesDataset',
}
# what a Swin of that name is: weights, channels, depths
SWIN = {
    't': ('swin_tiny_patch4', 96, [2, 2, 6, 2]),
    's': ('swin_small_patch4', 96, [2, 2, 18, 2]),
    'b': ('swin_base_patch4', 128, [2, 2, 18, 2]),
    'l': ('swin_large_patch4', 192, [2, 2, 18, 2]),
}


@PATHS
def test_config_is_what_its_name_says(path):
    name = NAME.fullmatch(path.stem)
    cfg = Config.fromfile(path, import_custom_modules=False)
    batch = int(name['batch'])
    assert cfg.train_dataloader.batch_size == batch
    assert cfg.auto_scale_lr.base_batch_size == batch * int(name['gpus'])
    if name['schedule'] != 'demo':
        assert f'{cfg.train_cfg.max_iters // 1000}k' == name['schedule']
    assert tuple(cfg.crop_size) == (int(name['height']), int(name['width']))
    window = name['window'] and (int(name['window']),) * 2
    assert cfg.model.test_cfg.get('crop_size') == window
    assert cfg.model.test_cfg.mode == ('slide' if window else 'whole')
    for loader in ('train', 'val', 'test'):
        dataset = cfg[f'{loader}_dataloader'].dataset
        assert dataset.type == DATASET[name['data']]


@PATHS
def test_head_has_the_classes_and_the_preprocessor_the_crop_of_the_data(path):
    cfg = Config.fromfile(path, import_custom_modules=False)
    dataset = cfg.train_dataloader.dataset
    names = DATASETS.get(dataset.type).METAINFO['classes']
    names = dataset.get('metainfo', dict(classes=names))['classes']
    assert cfg.model.decode_head.num_classes == len(names)
    size = cfg.model.data_preprocessor.size
    padding = [a - b for a, b in zip(size, cfg.crop_size, strict=True)]
    convnext = 'convnext' in path.stem  # cuts off what 32 does not divide
    assert padding == [-x % 32 if convnext else 0 for x in cfg.crop_size]
    assert cfg.data_preprocessor == cfg.model.data_preprocessor


@pytest.mark.parametrize(
    'path',
    [path for path in EXPERIMENTS if '_slide-' in path.stem],
    ids=lambda x: x.stem,
)
def test_sliding_window_is_all_that_differs_from_the_parent(path):
    parent = path.with_stem(path.stem.split('_slide-')[0])
    cfg, parent = Config.fromfile(path), Config.fromfile(parent)
    settings = cfg.model.pop('test_cfg')
    assert settings.stride == (768, 768)
    assert parent.model.pop('test_cfg') == dict(mode='whole')
    assert cfg.to_dict() == parent.to_dict()


@pytest.mark.parametrize(
    'path',
    [path for path in EXPERIMENTS if '_swin-' in path.stem],
    ids=lambda x: x.stem,
)
def test_swin_has_the_size_and_the_weights_of_its_name(path):
    cfg = Config.fromfile(path, import_custom_modules=False)
    backbone = cfg.model.backbone
    name = NAME.fullmatch(path.stem)['backbone']
    weights, channels, depths = SWIN[name[len('swin-')]]
    image = backbone.get('pretrain_img_size', 224)
    file = backbone.init_cfg.checkpoint.rsplit('/', 1)[1]
    start = f'{weights}_window{backbone.window_size}_{image}'
    assert re.fullmatch(rf'{start}(_22k)?_\d{{8}}-[0-9a-f]{{8}}\.pth', file)
    assert ('_22k_' in file) == ('-in22k-' in name)
    assert (image == 384) == ('-384x384-' in name)
    assert (backbone.embed_dims, backbone.depths) == (channels, depths)
    assert backbone.num_heads == [channels // 32 * 2**i for i in range(4)]
    assert backbone.drop_path_rate == 0.3
    head = cfg.model.decode_head
    assert head.in_channels == [channels * 2**i for i in range(4)]


@pytest.mark.parametrize(
    'path',
    [path for path in EXPERIMENTS if re.search(r'_r\d+_', path.stem)],
    ids=lambda x: x.stem,
)
def test_resnet_has_the_depth_weights_and_norm_of_its_name(path):
    """Frozen batch norm, but for Cityscapes and CamVid."""
    name = NAME.fullmatch(path.stem)
    backbone = Config.fromfile(path).model.backbone
    assert name['backbone'] == f'r{backbone.depth}'
    if name['data'] == 'shapes':
        assert backbone.init_cfg is None
        return
    checkpoint = f'torchvision://resnet{backbone.depth}'
    assert backbone.init_cfg.checkpoint == checkpoint
    frozen = name['data'] not in ('cityscapes', 'camvid')
    assert backbone.norm_cfg.type == ('BN' if frozen else 'SyncBN')
    assert backbone.norm_cfg.requires_grad is not frozen
    assert backbone.norm_eval is frozen


def test_swin_weights_are_files_that_mmseg_names():
    import mmseg

    configs = Path(mmseg.__file__).parent / '.mim/configs/mask2former'
    theirs = ''.join(x.read_text() for x in configs.glob('*.py'))
    if not theirs:
        pytest.skip('this mmseg comes without its configs')
    folders = ('_base_/models', 'faseg')
    ours = [
        url
        for folder in folders
        for path in (ROOT / 'configs' / folder).glob('*.py')
        for url in re.findall(r"'(http.*/swin_.*\.pth)'", path.read_text())
    ]
    assert len(set(ours)) == 5
    assert [url for url in ours if f"'{url}'" not in theirs] == []
