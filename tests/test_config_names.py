"""The name of a config states its data, schedule, backbone and weights."""

import re
from pathlib import Path

import pytest
from experiments import EXPERIMENTS, ROOT, load
from mmseg.registry import DATASETS

import mmfaseg  # noqa: F401  registers the datasets

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
    'dsb2018': 'BaseSegDataset',
    'shapes': 'mmfaseg.ShapesDataset',
}
# weights, channels and depths of each Swin
SWIN = {
    't': ('swin_tiny_patch4', 96, [2, 2, 6, 2]),
    's': ('swin_small_patch4', 96, [2, 2, 18, 2]),
    'b': ('swin_base_patch4', 128, [2, 2, 18, 2]),
    'l': ('swin_large_patch4', 192, [2, 2, 18, 2]),
}


def test_names_state_schedule_batch_size_crop_and_dataset():
    for path in EXPERIMENTS:
        name = NAME.fullmatch(path.stem)
        assert name, path.stem
        cfg = load(path)
        batch = int(name['batch'])
        assert cfg.train_dataloader.batch_size == batch, path.stem
        assert cfg.auto_scale_lr.base_batch_size == batch * int(name['gpus'])
        if name['schedule'] != 'demo':
            iterations = f'{cfg.train_cfg.max_iters // 1000}k'
            assert iterations == name['schedule'], path.stem
        crop = (int(name['height']), int(name['width']))
        assert tuple(cfg.crop_size) == crop, path.stem
        window = name['window'] and (int(name['window']),) * 2
        assert cfg.model.test_cfg.get('crop_size') == window, path.stem
        assert cfg.model.test_cfg.mode == ('slide' if window else 'whole')
        for loader in ('train', 'val', 'test'):
            dataset = cfg[f'{loader}_dataloader'].dataset
            assert dataset.type == DATASET[name['data']], path.stem


def test_head_and_preprocessor_fit_the_dataset():
    for path in EXPERIMENTS:
        cfg = load(path)
        dataset = cfg.train_dataloader.dataset
        default = DATASETS.get(dataset.type).METAINFO
        names = dataset.get('metainfo', default)['classes']
        assert cfg.model.decode_head.num_classes == len(names), path.stem
        size = cfg.model.data_preprocessor.size
        padding = [a - b for a, b in zip(size, cfg.crop_size, strict=True)]
        # ConvNeXt drops rows and columns beyond a multiple of 32
        is_convnext = 'convnext' in path.stem
        expected = [-x % 32 if is_convnext else 0 for x in cfg.crop_size]
        assert padding == expected, path.stem
        assert cfg.data_preprocessor == cfg.model.data_preprocessor


def test_sliding_window_configs_differ_in_the_test_config_only():
    paths = [path for path in EXPERIMENTS if '_slide-' in path.stem]
    assert paths
    for path in paths:
        parent = load(path.with_stem(path.stem.split('_slide-')[0]))
        cfg = load(path)
        settings = cfg.model.pop('test_cfg')
        assert settings.stride == (768, 768), path.stem
        assert settings.return_logits is False, path.stem
        whole = dict(mode='whole', return_logits=False)
        assert parent.model.pop('test_cfg') == whole
        assert cfg.to_dict() == parent.to_dict(), path.stem


def test_swin_configs_have_the_size_and_the_weights_of_their_name():
    paths = [path for path in EXPERIMENTS if '_swin-' in path.stem]
    assert paths
    for path in paths:
        cfg = load(path)
        backbone = cfg.model.backbone
        name = NAME.fullmatch(path.stem)['backbone']
        weights, channels, depths = SWIN[name[len('swin-')]]
        image = backbone.get('pretrain_img_size', 224)
        file = backbone.init_cfg.checkpoint.rsplit('/', 1)[1]
        start = f'{weights}_window{backbone.window_size}_{image}'
        pattern = rf'{start}(_22k)?_\d{{8}}-[0-9a-f]{{8}}\.pth'
        assert re.fullmatch(pattern, file), path.stem
        assert ('_22k_' in file) == ('-in22k-' in name), path.stem
        assert (image == 384) == ('-384x384-' in name), path.stem
        assert (backbone.embed_dims, backbone.depths) == (channels, depths)
        assert backbone.num_heads == [channels // 32 * 2**i for i in range(4)]
        assert backbone.drop_path_rate == 0.3
        head = cfg.model.decode_head
        assert head.in_channels == [channels * 2**i for i in range(4)]


def test_resnet_configs_have_the_depth_weights_and_norm_of_their_name():
    """Batch norm is frozen except on Cityscapes and CamVid."""
    paths = [x for x in EXPERIMENTS if re.search(r'_r\d+_', x.stem)]
    assert paths
    for path in paths:
        name = NAME.fullmatch(path.stem)
        backbone = load(path).model.backbone
        assert name['backbone'] == f'r{backbone.depth}', path.stem
        if name['data'] == 'shapes':
            assert backbone.init_cfg is None, path.stem
            continue
        checkpoint = f'torchvision://resnet{backbone.depth}'
        assert backbone.init_cfg.checkpoint == checkpoint, path.stem
        frozen = name['data'] not in ('cityscapes', 'camvid')
        assert backbone.norm_cfg.type == ('BN' if frozen else 'SyncBN')
        assert backbone.norm_cfg.requires_grad is not frozen, path.stem
        assert backbone.norm_eval is frozen, path.stem


def test_swin_weights_are_those_of_mmseg():
    import mmseg

    configs = Path(mmseg.__file__).parent / '.mim/configs/mask2former'
    theirs = ''.join(x.read_text() for x in configs.glob('*.py'))
    if not theirs:
        pytest.skip('this mmseg does not contain its configs')
    folders = ('_base_/models', 'faseg')
    ours = [
        url
        for folder in folders
        for path in (ROOT / 'configs' / folder).glob('*.py')
        for url in re.findall(r"'(http.*/swin_.*\.pth)'", path.read_text())
    ]
    assert len(set(ours)) == 5
    assert [url for url in ours if f"'{url}'" not in theirs] == []
