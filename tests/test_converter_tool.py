"""Command line of tools/model_converters/faseg2mmfaseg.py."""

import importlib.util
import json
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS as MMENGINE_MODELS
from mmengine.registry import init_default_scope
from mmengine.runner import CheckpointLoader
from mmseg.registry import MODELS

from mmfaseg.checkpoints import (
    detect_format,
    read_state,
    to_faseg,
    write_state,
)

ROOT = Path(__file__).parent.parent
TOOL = ROOT / 'tools/model_converters/faseg2mmfaseg.py'
DEMO = ROOT / 'configs/faseg/faseg_r18_1xb8-demo_shapes-128x128.py'
INSTANCES = (
    ROOT / 'configs/faseg_coco/faseg_r18_1xb8-demo_shapes-instance-128x128.py'
)
MMDET = (
    ROOT
    / 'configs/faseg_coco/mask2former_r18_1xb8-demo_shapes-instance-128x128.py'
)
MASK2FORMER = (
    ROOT / 'configs/mask2former/mask2former_r18_1xb8-20k_camvid-360x480.py'
)
CONFIG = ROOT / 'configs/faseg/faseg_r18_1xb8-20k_camvid-360x480.py'


@pytest.fixture(scope='module')
def tool():
    spec = importlib.util.spec_from_file_location('faseg2mmfaseg', TOOL)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope='module')
def authors(tmp_path_factory):
    """A checkpoint file of the authors, and its weights in both formats."""
    cfg = Config.fromfile(CONFIG)
    init_default_scope(cfg.default_scope)
    cfg.model.backbone.init_cfg = None
    torch.manual_seed(0)
    model = MODELS.build(cfg.model)
    ours = model.state_dict()
    theirs = to_faseg(ours, {k: x.shape for k, x in ours.items()}).state
    path = tmp_path_factory.mktemp('authors') / 'model_final.pth'
    torch.save(dict(model=theirs, iteration=1), path)
    return path, theirs, ours


def call(tool, monkeypatch, *arguments):
    monkeypatch.setattr('sys.argv', ['tool', *map(str, arguments)])
    tool.main()


def test_dry_run_prints_and_writes_nothing(
    tool, authors, monkeypatch, capsys, tmp_path
):
    source, theirs, _ = authors
    monkeypatch.chdir(tmp_path)
    call(tool, monkeypatch, source, '--dry-run')
    printed = capsys.readouterr().out
    assert 'backbone.stem.conv1.norm.*' in printed
    assert 'decode_head.transformer_decoder.positional_query.mlp.*' in printed
    assert f'│     {len(theirs) - 1} │' in printed
    assert 'faseg_r18_1xb8-20k_camvid-360x480.py' in printed
    assert 'RGB, mean [123.675, 116.28, 103.53]' in printed
    assert 'no file was written' in printed
    assert list(tmp_path.iterdir()) == []


@pytest.mark.smoke
@pytest.mark.parametrize('suffix', ['.pth', '.safetensors'])
def test_round_trip_is_the_identity(
    tool, authors, monkeypatch, capsys, tmp_path, suffix
):
    source, theirs, ours = authors
    here, back = tmp_path / f'ours{suffix}', tmp_path / 'back.pth'
    call(tool, monkeypatch, source, here)
    assert f'mmfaseg test {Path(tool.os.path.relpath(CONFIG))}' in (
        capsys.readouterr().out
    )
    mmengine = CheckpointLoader.load_checkpoint(str(here), 'cpu')
    assert len(mmengine['meta']['dataset_meta']['classes']) == 11
    converted = read_state(here)
    assert sorted(converted) == sorted(ours)
    call(tool, monkeypatch, here, back, '--reverse')
    again = torch.load(back, weights_only=True)['model']
    assert sorted(again) == sorted(theirs)
    for name, value in theirs.items():
        assert torch.equal(again[name], value), name


@pytest.mark.parametrize('weight', [None, 0.2])
def test_no_object_weight_of_the_loss_is_stored(
    tool, authors, monkeypatch, tmp_path, weight
):
    """Or its default if the config does not set it."""
    ours, back = tmp_path / 'ours.pth', tmp_path / 'back.pth'
    config = tmp_path / 'config.py'
    write_state(ours, authors[2], {})
    cfg = Config.fromfile(CONFIG)
    loss = cfg.model.decode_head.loss
    del loss['no_object_weight']
    if weight is not None:
        loss.no_object_weight = weight
    cfg.dump(config)
    call(tool, monkeypatch, ours, back, '--reverse', '--config', config)
    stored = read_state(back)['criterion.empty_weight']
    assert stored[-1].item() == pytest.approx(weight or 0.1)


def test_invalid_arguments_exit_with_message(
    tool, authors, monkeypatch, tmp_path
):
    source, theirs, _ = authors
    target = tmp_path / 'ours.pth'

    def error_of(*arguments):
        with pytest.raises(SystemExit) as caught:
            call(tool, monkeypatch, *arguments)
        assert not target.exists()
        return str(caught.value)

    assert 'without --reverse' in error_of(source, target, '--reverse')
    assert 'must end with' in error_of(source, tmp_path / 'ours.pt')
    assert 'no checkpoint at' in error_of(tmp_path / 'absent.pth', target)
    assert 'does not exist' in error_of(source, tmp_path / 'no/ours.pth')
    assert 'is the source' in error_of(source, source)
    assert error_of(source) == '2'  # usage error without a target or --dry-run

    name = 'sem_seg_head.predictor.query_feat.weight'
    short = tmp_path / 'short.pth'
    torch.save({k: x for k, x in theirs.items() if k != name}, short)
    message = error_of(short, target)
    assert 'missing: decode_head.transformer_decoder.query_feat' in message
    wrong = CONFIG.parent / 'faseg_r50_8xb2-160k_ade20k-512x512.py'
    assert 'shape mismatch' in error_of(source, target, '--config', wrong)


def test_normalization_in_the_checkpoint_is_compared(
    tool, authors, monkeypatch, capsys, tmp_path
):
    _, theirs, _ = authors
    path = tmp_path / 'old.pth'
    mean = torch.tensor([103.53, 116.28, 123.675])
    extra = dict(pixel_mean=mean.view(3, 1, 1), pixel_std=torch.ones(3, 1, 1))
    torch.save(dict(model=theirs | extra), path)
    call(tool, monkeypatch, path, '--dry-run')
    printed = capsys.readouterr().out
    assert 'BGR by the mean in the checkpoint' in printed
    assert 'data_preprocessor.mean="[103.53,116.28,123.675]"' in printed
    assert 'data_preprocessor.bgr_to_rgb=False' in printed


@pytest.mark.parametrize(
    ('backbone', 'classes', 'expected'),
    [
        ('r50', 150, 'faseg_r50_8xb2-160k_ade20k-512x512'),
        ('r101', 19, 'faseg_r101_8xb2-90k_cityscapes-512x1024'),
        ('swin-t', 150, 'faseg_swin-t_8xb2-160k_ade20k-512x512'),
        (
            'swin-b',
            150,
            'faseg_swin-b-in22k-384x384-pre_8xb2-160k_ade20k-640x640',
        ),
        (
            'swin-l',
            65,
            'faseg_swin-l-in22k-384x384-pre_8xb2-300k_mapillary-v1-65-'
            '1024x1024',
        ),
        ('r50', 171, 'faseg_r50_8xb2-160k_coco-stuff164k-512x512'),
        ('r50', 59, 'faseg_r50_8xb2-40k_pascal-context-59-480x480'),
        ('r50', 11, 'faseg_r50_1xb8-20k_camvid-360x480'),
    ],
)
def test_config_is_found_for_checkpoint(tool, backbone, classes, expected):
    assert tool.find_config(backbone, classes).stem == expected


def test_unknown_checkpoint_raises(tool):
    with pytest.raises(
        ValueError, match='133 classes: specify one with --config'
    ):
        tool.find_config('r50', 133)


def test_segmentor_checkpoint_initializes_detector(
    tool, authors, monkeypatch, capsys, tmp_path
):
    """A semantic checkpoint initializes an instance segmentation model."""
    source, start = tmp_path / 'semantic.pth', tmp_path / 'start.pth'
    cfg = Config.fromfile(DEMO)
    init_default_scope(cfg.default_scope)
    semantic = MODELS.build(cfg.model)
    torch.save(dict(state_dict=semantic.state_dict()), source)
    with pytest.raises(SystemExit, match='or specify the --config'):
        call(tool, monkeypatch, source, start)
    call(tool, monkeypatch, source, start, '--config', INSTANCES)
    printed = capsys.readouterr().out
    assert f'load_from={start}' in printed
    loaded = CheckpointLoader.load_checkpoint(str(start), 'cpu')
    assert loaded['meta']['dataset_meta']['classes'] == [
        'stripes',
        'checker',
        'disc',
        'cross',
    ]
    cfg = Config.fromfile(INSTANCES)
    init_default_scope(cfg.default_scope)
    model = MMENGINE_MODELS.build(cfg.model)
    missing, unexpected = model.load_state_dict(
        loaded['state_dict'], strict=False
    )
    assert unexpected == []
    assert {x.split('.')[-2] for x in missing} == {'class_embed'}

    detector = tmp_path / 'detector.pth'
    torch.save(dict(state_dict=model.state_dict()), detector)
    with pytest.raises(SystemExit, match='authors have no detector'):
        call(
            tool,
            monkeypatch,
            *(detector, tmp_path / 'x.pth', '--config', INSTANCES),
            '--reverse',
        )


@pytest.fixture(scope='module')
def mask2former(tmp_path_factory):
    """A checkpoint of mmseg's Mask2Former, and its weights."""
    cfg = Config.fromfile(MASK2FORMER)
    init_default_scope(cfg.default_scope)
    cfg.model.backbone.init_cfg = None
    torch.manual_seed(0)
    state = MODELS.build(cfg.model).state_dict()
    # Hugging Face has no auxiliary heads
    state = {k: x for k, x in state.items() if 'auxiliary' not in k}
    path = tmp_path_factory.mktemp('mask2former') / 'mmseg.pth'
    write_state(path, state, {})
    return path, state


def test_mask2former_of_hugging_face(
    tool, mask2former, monkeypatch, capsys, tmp_path
):
    """A folder with config.json is converted to Mask2Former and FASeg."""
    source, state = mask2former
    config = ('--config', MASK2FORMER)
    weights = tmp_path / 'model.safetensors'
    to_hf = ('--reverse', '--format', 'huggingface')
    call(tool, monkeypatch, source, weights, *config, *to_hf)
    theirs = read_state(weights)
    assert detect_format(theirs) == 'huggingface-mask2former'
    assert theirs['criterion.empty_weight'][-1] == pytest.approx(0.1)
    names = [f'class {i}' for i in range(11)]
    labels = dict(enumerate(names))
    (tmp_path / 'config.json').write_text(json.dumps(dict(id2label=labels)))

    same, start = tmp_path / 'same.pth', tmp_path / 'start.pth'
    capsys.readouterr()
    call(tool, monkeypatch, tmp_path, same, *config)
    assert '11 of 11 have another name in the config' in (
        capsys.readouterr().out
    )
    loaded = CheckpointLoader.load_checkpoint(str(same), 'cpu')
    assert loaded['meta']['dataset_meta']['classes'] == names
    assert loaded['state_dict'].keys() == state.keys()
    for name, value in state.items():
        assert torch.equal(loaded['state_dict'][name], value), name

    call(tool, monkeypatch, weights, start)
    assert f'config: {tool.os.path.relpath(CONFIG)}' in (
        capsys.readouterr().out
    )
    assert detect_format(read_state(start)) == 'mmfaseg'
    other = ROOT / 'configs/faseg/faseg_r18_1xb8-3k_shapes-128x128.py'
    with pytest.raises(SystemExit, match='shape mismatch'):
        call(tool, monkeypatch, weights, start, '--config', other)
    labels.popitem()
    (tmp_path / 'config.json').write_text(json.dumps(dict(id2label=labels)))
    with pytest.raises(SystemExit, match='names 10 classes, but the class'):
        call(tool, monkeypatch, tmp_path, start)


def test_class_names_come_from_the_first_of_several_datasets(tool):
    cfg = Config.fromfile(MASK2FORMER)
    names = tool.classes_of(cfg)
    assert len(names['classes']) == cfg.model.decode_head.num_classes
    part = cfg.train_dataloader.dataset
    wrapped = dict(type='ConcatDataset', datasets=[part, part])
    cfg.train_dataloader.dataset = dict(type='RepeatDataset', dataset=wrapped)
    assert tool.classes_of(cfg) == names
    cfg.train_dataloader.dataset = dict(type='BaseSegDataset')
    assert tool.classes_of(cfg) == {}


def test_config_of_a_model_only_has_no_class_names(
    tool, mask2former, monkeypatch, tmp_path
):
    source, state = mask2former
    cfg = Config.fromfile(MASK2FORMER)
    path, target = tmp_path / 'model.py', tmp_path / 'huggingface.safetensors'
    Config(
        dict(
            model=cfg.model,
            default_scope='mmseg',
            custom_imports=cfg.custom_imports,
        )
    ).dump(path)
    to_hf = ('--reverse', '--format', 'huggingface')
    call(tool, monkeypatch, source, target, '--config', path, *to_hf)
    back = tmp_path / 'back.pth'
    call(tool, monkeypatch, target, back, '--config', path)
    loaded = CheckpointLoader.load_checkpoint(str(back), 'cpu')
    assert loaded['state_dict'].keys() == state.keys()
    assert 'classes' not in loaded['meta'].get('dataset_meta', {})


def test_instance_segmentation_of_hugging_face(tool, monkeypatch, tmp_path):
    """All weights of mmdet's Mask2Former return, with the classifier."""
    cfg = Config.fromfile(MMDET)
    init_default_scope(cfg.default_scope)
    torch.manual_seed(0)
    state = MMENGINE_MODELS.build(cfg.model).state_dict()
    source, back = tmp_path / 'mmdet.pth', tmp_path / 'back.pth'
    write_state(source, state, {})
    config = ('--config', MMDET)
    weights = tmp_path / 'x.safetensors'
    to_hf = ('--reverse', '--format', 'huggingface')
    call(tool, monkeypatch, source, weights, *config, *to_hf)
    call(tool, monkeypatch, weights, back, *config)
    again = read_state(back)
    assert again.keys() == state.keys()
    for name, value in state.items():
        assert torch.equal(again[name], value), name
    cfg = Config.fromfile(INSTANCES)
    cfg.model.panoptic_head.transformer_decoder.num_layers = 13
    cfg.dump(tmp_path / 'faseg.py')
    call(tool, monkeypatch, weights, back, '--config', tmp_path / 'faseg.py')
    name = 'panoptic_head.transformer_decoder.predictor.class_embed.weight'
    classifier = state['panoptic_head.cls_embed.weight']
    assert torch.equal(read_state(back)[name], classifier)


def test_only_mask2former_is_converted_to_hugging_face(
    tool, authors, monkeypatch, tmp_path
):
    faseg, target = tmp_path / 'faseg.pth', tmp_path / 'x.safetensors'
    write_state(faseg, authors[2], {})
    to_hf = ('--reverse', '--format', 'huggingface')
    config = ('--config', tmp_path / 'config.py')
    cfg = Config.fromfile(CONFIG)
    decoder = cfg.model.decode_head.transformer_decoder
    for threshold, reason in (
        (0.15, r'mask_threshold=0\.15'),
        (0.3, r'mask_threshold=0\.3'),
        (0.5, '4 feature levels'),
    ):
        decoder.masked_attention.mask_threshold = threshold
        cfg.dump(config[1])
        with pytest.raises(SystemExit, match=reason):
            call(tool, monkeypatch, faseg, target, *config, *to_hf)
    for arguments in (
        (target, *to_hf),
        (target, *config, *to_hf[1:]),
        ('x.pth', *config, *to_hf),
    ):
        with pytest.raises(SystemExit, match='2'):  # usage error
            call(tool, monkeypatch, faseg, *arguments)
    assert not target.exists()
