import pytest
import torch
import torch.nn.functional as F
from decoder_parts import CONDITIONAL, LEARNED, SINE

from mmfaseg.models import FASegPixelDecoder
from mmfaseg.models.layers import MultiScaleDeformableAttention
from mmfaseg.models.layers.deformable_encoder import pixel_grid
from mmfaseg.testing import assert_close, make_pyramid

CHANNELS = (6, 10, 7, 12)  # no doubling
MMDET = dict(type='mmdet.SinePositionalEncoding', num_feats=8, normalize=True)


def _small(positional_encoding=CONDITIONAL, num_levels=4, with_cp=False):
    return FASegPixelDecoder(
        CHANNELS,
        embed_dims=16,
        mask_channels=9,
        num_layers=2,
        num_heads=4,
        feedforward_channels=24,
        norm_cfg=dict(type='GN', num_groups=4),
        positional_encoding=positional_encoding,
        num_levels=num_levels,
        with_cp=with_cp,
    ).double()


@pytest.fixture
def pixel_decoder():
    return _small()


@pytest.mark.parametrize('size', [(64, 96), (100, 70), (32, 32), (33, 65)])
def test_shapes(pixel_decoder, size):
    feats = make_pyramid(2, CHANNELS, *size)
    memories, positions, mask_features = pixel_decoder(feats)
    expected = [(2, 16, *x.shape[2:]) for x in reversed(feats)]
    assert [tuple(x.shape) for x in memories] == expected
    assert [tuple(x.shape) for x in positions] == expected
    assert mask_features.shape == (2, 9, *feats[0].shape[2:])


@pytest.mark.parametrize('encoding', [CONDITIONAL, SINE, LEARNED, MMDET])
@pytest.mark.parametrize('num_levels', [3, 4])
def test_every_weight_gets_a_gradient_for_all_encodings(encoding, num_levels):
    """Unused parameters would stop distributed training."""
    decoder = _small(encoding, num_levels)
    feats = make_pyramid(2, CHANNELS, 36, 65)
    memories, positions, mask_features = decoder(feats)
    expected = [(2, 16, *x.shape[2:]) for x in reversed(feats)][:num_levels]
    assert [tuple(x.shape) for x in memories] == expected
    assert [tuple(x.shape) for x in positions] == expected
    total = sum(x.square().sum() for x in (*memories, *positions))
    (total + mask_features.square().sum()).backward()
    missing = [k for k, x in decoder.named_parameters() if x.grad is None]
    assert missing == []


def test_init_weights_reaches_encodings_of_mmdet():
    learned = dict(type='mmdet.LearnedPositionalEncoding', num_feats=8)
    decoder = _small(learned)
    decoder.init_weights()
    for encoding in decoder.positional_encodings:
        rows = encoding.encoding.row_embed.weight  # init_cfg: uniform, [0, 1)
        assert rows.min() >= 0


def test_positions_are_a_depthwise_convolution_of_the_projection(
    pixel_decoder,
):
    feats = make_pyramid(1, CHANNELS, 64, 64)
    _, positions, _ = pixel_decoder(feats)
    for level, feat in enumerate(reversed(feats)):
        projection = pixel_decoder.input_projs[level]
        projected = F.group_norm(
            F.conv2d(feat, projection[0].weight, projection[0].bias),
            4,
            projection[1].weight,
            projection[1].bias,
        )
        conv = pixel_decoder.positional_encodings[level].conv
        padded = F.pad(projected, (1, 1, 1, 1))
        height, width = projected.shape[2:]
        expected = conv.bias[:, None, None].expand(1, -1, height, width)
        for dy in range(3):
            for dx in range(3):
                weight = conv.weight[:, 0, dy, dx, None, None]
                expected = expected + (
                    weight * padded[:, :, dy : dy + height, dx : dx + width]
                )
        assert_close(positions[level], expected)


def test_stride_4_memory_is_the_fpn_step(pixel_decoder):
    feats = make_pyramid(1, CHANNELS, 64, 64)
    memories, _, mask_features = pixel_decoder(feats)
    lateral = pixel_decoder.lateral_conv(feats[0])
    up = F.interpolate(memories[2], scale_factor=2, mode='bilinear')
    expected = pixel_decoder.output_conv(lateral + up)
    assert_close(memories[3], expected)
    assert (memories[3] >= 0).all()
    assert_close(mask_features, pixel_decoder.mask_feature(expected))


def test_encoder_sees_the_positions(pixel_decoder):
    feats = make_pyramid(1, CHANNELS, 64, 64)
    torch.nn.init.normal_(
        pixel_decoder.encoder.layers[0].self_attn.sampling_offsets.weight
    )
    before = pixel_decoder(feats)[0][0]
    with torch.no_grad():
        pixel_decoder.positional_encodings[0].conv.bias += 1
    assert (pixel_decoder(feats)[0][0] - before).abs().max() > 1e-3


def test_offsets_count_pixels_of_the_sampled_level():
    """One pixel to the right, on a map that is not square."""
    attention = MultiScaleDeformableAttention(
        4, num_heads=1, num_levels=1, num_points=1
    ).double()
    with torch.no_grad():
        attention.sampling_offsets.bias.copy_(torch.tensor([1.0, 0.0]))
        for linear in (attention.value_proj, attention.output_proj):
            linear.weight.copy_(torch.eye(4))
    maps = torch.randn(1, 4, 3, 5, dtype=torch.float64)
    tokens = maps.flatten(2).transpose(1, 2)
    grid = pixel_grid([(3, 5)], tokens)
    output = attention(tokens, torch.zeros_like(tokens), grid)
    output = output.transpose(1, 2).unflatten(2, (3, 5))
    assert_close(output[..., :-1], maps[..., 1:])
    assert_close(output[..., -1], torch.zeros_like(maps[..., -1]))


def test_checkpointing_changes_no_gradient():
    results = []
    for with_cp in (False, True):
        torch.manual_seed(0)
        decoder = _small(with_cp=with_cp)
        runs = []
        decoder.encoder.layers[0].ffn.register_forward_hook(
            lambda *_, runs=runs: runs.append(1)
        )
        maps, _, _ = decoder(make_pyramid(1, CHANNELS, 64, 64))
        sum(x.square().sum() for x in maps).backward()
        gradients = [x.grad for x in decoder.parameters()]
        results.append([x for x in gradients if x is not None])
        assert len(runs) == 1 + with_cp, 'layers must run again'
    for plain, again in zip(*results, strict=True):
        assert torch.equal(plain, again)


def test_maps_are_channels_last(pixel_decoder):
    """And nothing depends on the format that comes in."""
    feats = make_pyramid(2, CHANNELS, 64, 96)
    memories, positions, mask_features = pixel_decoder(feats)
    for x in (*memories, *positions, mask_features):
        assert x[0].permute(1, 2, 0).is_contiguous()
    turned = [x.to(memory_format=torch.channels_last) for x in feats]
    assert torch.equal(pixel_decoder(turned)[2], mask_features)


def test_wrong_channels_are_named_with_the_remedy(pixel_decoder):
    feats = make_pyramid(1, (6, 10, 7, 13), 64, 64)
    with pytest.raises(ValueError, match=r'in_channels=\[6, 10, 7, 13\]'):
        pixel_decoder(feats)
    with pytest.raises(ValueError, match=r'in this order.*\[2, 4, 8, 16\]'):
        pixel_decoder(feats[::-1])
    with pytest.raises(TypeError, match='a single tensor'):
        pixel_decoder(feats[0])


def test_invalid_arguments_raise():
    parts = dict(
        norm_cfg=dict(type='GN', num_groups=32),
        positional_encoding=CONDITIONAL,
    )
    with pytest.raises(ValueError, match='four entries'):
        FASegPixelDecoder(CHANNELS[:3], 64, **parts)
    with pytest.raises(ValueError, match=r'norm_cfg\.num_groups=32'):
        FASegPixelDecoder(CHANNELS, 48, **parts)
    for name in (
        *('num_layers', 'num_heads', 'num_points'),
        *('feedforward_channels', 'mask_channels'),
    ):
        with pytest.raises(ValueError, match=f'{name}=0 must be at least 1'):
            FASegPixelDecoder(CHANNELS, 64, **parts, **{name: 0})
    parts['norm_cfg'] = dict(type='GN', num_groups=0)
    with pytest.raises(ValueError, match='num_groups=0 must be at least 1'):
        FASegPixelDecoder(CHANNELS, 64, **parts)
