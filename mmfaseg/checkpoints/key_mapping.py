"""Mapping of parameter names between mmfaseg and other programs.

A rule is a pair of templates: the name in the other program and in mmfaseg.
``{i}`` and ``{j}`` stand for numbers, a ``*`` at the end for the rest of the
name. The first matching rule applies. The same rules map in both directions.

The head is called ``decode_head`` in segmentors of mmseg and
``panoptic_head`` in detectors of mmdet. The rules use the name in segmentors.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from typing import TypeVar

Rule = tuple[str, str]
Value = TypeVar('Value')

SEGMENTOR = 'decode_head.'
DETECTOR = 'panoptic_head.'

PIXEL_DECODER = 'decode_head.pixel_decoder.'
DECODER = 'decode_head.transformer_decoder.'

# formats, by the program that writes them; MASK2FORMER is that of detectron2
MMFASEG = 'mmfaseg'
FASEG = 'faseg'
MASK2FORMER = 'mask2former'
MMSEG_MASK2FORMER = 'mmseg-mask2former'
HUGGING_FACE_MASK2FORMER = 'huggingface-mask2former'


def map_key(
    name: str, rules: Sequence[Rule], reverse: bool = False
) -> tuple[str, Rule] | None:
    """Returns the new name and the rule, in the direction of the mapping.

    Returns None if no rule matches. ``reverse`` maps from mmfaseg to the other
    program.
    """
    for rule in rules:
        source, target = rule[::-1] if reverse else rule
        match = _pattern(source).fullmatch(name)
        if match is not None:
            parts = match.groupdict()
            rest = parts.pop('rest', '')
            renamed = target.replace('*', '{}').format(rest, **parts)
            return renamed, (source, target)
    return None


def is_detector(names: Iterable[str]) -> bool:
    """Returns whether the keys are those of a detector."""
    return any(name.startswith(DETECTOR) for name in names)


def to_segmentor_keys(entries: Mapping[str, Value]) -> dict[str, Value]:
    """Returns the entries of a segmentor or detector with segmentor keys."""
    return {
        _replace_prefix(name, DETECTOR, SEGMENTOR): value
        for name, value in entries.items()
    }


def to_detector_key(name: str) -> str:
    """Returns the key in a detector for one in a segmentor."""
    return _replace_prefix(name, SEGMENTOR, DETECTOR)


def _replace_prefix(name: str, old: str, new: str) -> str:
    return new + name[len(old) :] if name.startswith(old) else name


@cache
def _pattern(template: str) -> re.Pattern[str]:
    pattern = re.escape(template)
    for letter in 'ij':
        pattern = pattern.replace(
            re.escape(f'{{{letter}}}'), rf'(?P<{letter}>\d+)'
        )
    return re.compile(pattern.replace(re.escape('*'), '(?P<rest>.+)'))


def _with_prefix(
    theirs: str, ours: str, rules: Sequence[Rule]
) -> tuple[Rule, ...]:
    """Returns the rules with a prefix on each side."""
    return tuple((theirs + left, ours + right) for left, right in rules)


def _resnet_stage(stage: int) -> tuple[Rule, ...]:
    convs: list[Rule] = []
    for i in (1, 2, 3):
        convs += [(f'conv{i}.norm.*', f'bn{i}.*'), (f'conv{i}.*',) * 2]
    shortcut = [
        ('shortcut.norm.*', 'downsample.1.*'),
        ('shortcut.*', 'downsample.0.*'),
    ]
    return _with_prefix(
        f'backbone.res{stage + 1}.{{i}}.',
        f'backbone.layer{stage}.{{i}}.',
        [*convs, *shortcut],
    )


# backbones of detectron2 and of MMSegmentation
RESNET: tuple[Rule, ...] = (
    ('backbone.stem.conv1.norm.*', 'backbone.bn1.*'),
    ('backbone.stem.conv1.*', 'backbone.conv1.*'),
    *(rule for stage in (1, 2, 3, 4) for rule in _resnet_stage(stage)),
)
SWIN: tuple[Rule, ...] = (
    ('backbone.patch_embed.proj.*', 'backbone.patch_embed.projection.*'),
    ('backbone.patch_embed.norm.*',) * 2,
    *_with_prefix(
        'backbone.layers.{i}.blocks.{j}.',
        'backbone.stages.{i}.blocks.{j}.',
        [
            ('attn.*', 'attn.w_msa.*'),
            ('mlp.fc1.*', 'ffn.layers.0.0.*'),
            ('mlp.fc2.*', 'ffn.layers.1.*'),
            ('norm1.*', 'norm1.*'),
            ('norm2.*', 'norm2.*'),
        ],
    ),
    ('backbone.layers.{i}.downsample.*', 'backbone.stages.{i}.downsample.*'),
    ('backbone.norm{i}.*',) * 2,
)

# decoders of the authors; Mask2Former uses the same names
DECODERS: tuple[Rule, ...] = (
    *_with_prefix(
        'sem_seg_head.pixel_decoder.',
        PIXEL_DECODER,
        [
            ('input_proj.{i}.*', 'input_projs.{i}.*'),
            ('pos_linear.{i}.*', 'positional_encodings.{i}.conv.*'),
            ('transformer.level_embed', 'encoder.level_embed.weight'),
            *_with_prefix(
                'transformer.encoder.layers.{i}.',
                'encoder.layers.{i}.',
                [
                    ('self_attn.*', 'self_attn.*'),
                    ('norm1.*', 'self_norm.*'),
                    ('linear1.*', 'ffn.0.*'),
                    ('linear2.*', 'ffn.2.*'),
                    ('norm2.*', 'ffn_norm.*'),
                ],
            ),
            ('adapter_1.norm.*', 'lateral_conv.1.*'),
            ('adapter_1.*', 'lateral_conv.0.*'),
            ('layer_1.norm.*', 'output_conv.1.*'),
            ('layer_1.*', 'output_conv.0.*'),
            ('mask_features.*', 'mask_feature.*'),
        ],
    ),
    *_with_prefix(
        'sem_seg_head.predictor.transformer_',
        DECODER + 'layers.{i}.',
        [
            (
                'cross_attention_layers.{i}.multihead_attn.*',
                'cross_attn.attn.*',
            ),
            ('cross_attention_layers.{i}.norm.*', 'cross_norm.*'),
            ('self_attention_layers.{i}.self_attn.*', 'self_attn.*'),
            ('self_attention_layers.{i}.norm.*', 'self_norm.*'),
            ('ffn_layers.{i}.linear1.*', 'ffn.0.*'),
            ('ffn_layers.{i}.linear2.*', 'ffn.2.*'),
            ('ffn_layers.{i}.norm.*', 'ffn_norm.*'),
        ],
    ),
    *_with_prefix(
        'sem_seg_head.predictor.',
        DECODER,
        [
            ('decoder_norm.*', 'predictor.norm.*'),
            ('class_embed.*', 'predictor.class_embed.*'),
            ('mask_embed.layers.0.*', 'predictor.mask_embed.0.*'),
            ('mask_embed.layers.1.*', 'predictor.mask_embed.2.*'),
            ('mask_embed.layers.2.*', 'predictor.mask_embed.4.*'),
            ('adapt_pos2d.*', 'positional_query.mlp.*'),
            ('query_feat.*', 'query_feat.*'),
            ('query_embed.*', 'query_embed.*'),
            ('level_embed.*', 'level_embed.*'),
        ],
    ),
)
FASEG_RULES: tuple[Rule, ...] = (*RESNET, *SWIN, *DECODERS)

# Mask2Former of MMSegmentation
MMSEG_RULES: tuple[Rule, ...] = (
    ('backbone.*', 'backbone.*'),
    *_with_prefix(
        PIXEL_DECODER,
        PIXEL_DECODER,
        [
            ('input_convs.{i}.conv.*', 'input_projs.{i}.0.*'),
            ('input_convs.{i}.gn.*', 'input_projs.{i}.1.*'),
            ('level_encoding.*', 'encoder.level_embed.*'),
            *_with_prefix(
                'encoder.layers.{i}.',
                'encoder.layers.{i}.',
                [
                    ('self_attn.*', 'self_attn.*'),
                    ('norms.0.*', 'self_norm.*'),
                    ('ffn.layers.0.0.*', 'ffn.0.*'),
                    ('ffn.layers.1.*', 'ffn.2.*'),
                    ('norms.1.*', 'ffn_norm.*'),
                ],
            ),
            ('lateral_convs.0.conv.*', 'lateral_conv.0.*'),
            ('lateral_convs.0.gn.*', 'lateral_conv.1.*'),
            ('output_convs.0.conv.*', 'output_conv.0.*'),
            ('output_convs.0.gn.*', 'output_conv.1.*'),
            ('mask_feature.*', 'mask_feature.*'),
        ],
    ),
    *_with_prefix(
        DECODER + 'layers.{i}.',
        DECODER + 'layers.{i}.',
        [
            ('cross_attn.attn.*', 'cross_attn.attn.*'),
            ('norms.0.*', 'cross_norm.*'),
            ('self_attn.attn.*', 'self_attn.*'),
            ('norms.1.*', 'self_norm.*'),
            ('ffn.layers.0.0.*', 'ffn.0.*'),
            ('ffn.layers.1.*', 'ffn.2.*'),
            ('norms.2.*', 'ffn_norm.*'),
        ],
    ),
    (DECODER + 'post_norm.*', DECODER + 'predictor.norm.*'),
    ('decode_head.cls_embed.*', DECODER + 'predictor.class_embed.*'),
    ('decode_head.mask_embed.*', DECODER + 'predictor.mask_embed.*'),
    ('decode_head.query_feat.*', DECODER + 'query_feat.*'),
    ('decode_head.query_embed.*', DECODER + 'query_embed.*'),
    ('decode_head.level_embed.*', DECODER + 'level_embed.*'),
)


def _hugging_face_resnet_stage(stage: int) -> tuple[Rule, ...]:
    rules: list[Rule] = [
        ('shortcut.convolution.*', 'downsample.0.*'),
        ('shortcut.normalization.*', 'downsample.1.*'),
    ]
    for i in (1, 2, 3):
        rules += [
            (f'layer.{i - 1}.convolution.*', f'conv{i}.*'),
            (f'layer.{i - 1}.normalization.*', f'bn{i}.*'),
        ]
    return _with_prefix(
        f'encoder.stages.{stage - 1}.layers.{{i}}.',
        f'layer{stage}.{{i}}.',
        rules,
    )


# Hugging Face Mask2Former; see merge_projections() for the projections of
# queries, keys and values
HUGGING_FACE_RULES: tuple[Rule, ...] = (
    *_with_prefix(
        'model.pixel_level_module.encoder.',
        'backbone.',
        [
            ('embedder.embedder.convolution.*', 'conv1.*'),
            ('embedder.embedder.normalization.*', 'bn1.*'),
            *(r for x in (1, 2, 3, 4) for r in _hugging_face_resnet_stage(x)),
            ('embeddings.norm.*', 'patch_embed.norm.*'),
            ('embeddings.patch_embeddings.*', 'patch_embed.*'),
            *_with_prefix(
                'encoder.layers.{i}.blocks.{j}.',
                'stages.{i}.blocks.{j}.',
                [
                    ('layernorm_before.*', 'norm1.*'),
                    (
                        'attention.self.relative_position_*',
                        'attn.w_msa.relative_position_*',
                    ),
                    ('attention.self.query_key_value.*', 'attn.w_msa.qkv.*'),
                    ('attention.output.dense.*', 'attn.w_msa.proj.*'),
                    ('layernorm_after.*', 'norm2.*'),
                    ('intermediate.dense.*', 'ffn.layers.0.0.*'),
                    ('output.dense.*', 'ffn.layers.1.*'),
                ],
            ),
            ('encoder.layers.{i}.downsample.*', 'stages.{i}.downsample.*'),
            *(
                (f'hidden_states_norms.stage{i + 1}.*', f'norm{i}.*')
                for i in range(4)
            ),
        ],
    ),
    *_with_prefix(
        'model.pixel_level_module.decoder.',
        PIXEL_DECODER,
        [
            ('input_projections.{i}.*', 'input_projs.{i}.*'),
            ('level_embed', 'encoder.level_embed.weight'),
            *_with_prefix(
                'encoder.layers.{i}.',
                'encoder.layers.{i}.',
                [
                    ('self_attn.*', 'self_attn.*'),
                    ('self_attn_layer_norm.*', 'self_norm.*'),
                    ('fc1.*', 'ffn.0.*'),
                    ('fc2.*', 'ffn.2.*'),
                    ('final_layer_norm.*', 'ffn_norm.*'),
                ],
            ),
            ('adapter_1.*', 'lateral_conv.*'),
            ('layer_1.*', 'output_conv.*'),
            ('mask_projection.*', 'mask_feature.*'),
        ],
    ),
    *_with_prefix(
        'model.transformer_module.decoder.layers.{i}.',
        DECODER + 'layers.{i}.',
        [
            ('cross_attn.*', 'cross_attn.attn.*'),
            ('cross_attn_layer_norm.*', 'cross_norm.*'),
            ('self_attn.query_key_value.weight', 'self_attn.in_proj_weight'),
            ('self_attn.query_key_value.bias', 'self_attn.in_proj_bias'),
            ('self_attn.out_proj.*', 'self_attn.out_proj.*'),
            ('self_attn_layer_norm.*', 'self_norm.*'),
            ('fc1.*', 'ffn.0.*'),
            ('fc2.*', 'ffn.2.*'),
            ('final_layer_norm.*', 'ffn_norm.*'),
        ],
    ),
    *_with_prefix(
        'model.transformer_module.',
        DECODER,
        [
            ('decoder.layernorm.*', 'predictor.norm.*'),
            *_with_prefix(
                'decoder.mask_predictor.mask_embedder.',
                'predictor.mask_embed.',
                [(f'{i}.0.*', f'{2 * i}.*') for i in range(3)],
            ),
            ('queries_features.*', 'query_feat.*'),
            ('queries_embedder.*', 'query_embed.*'),
            ('level_embed.*', 'level_embed.*'),
        ],
    ),
    ('class_predictor.*', DECODER + 'predictor.class_embed.*'),
)

RULES: dict[str, tuple[Rule, ...]] = {
    MMFASEG: (('*', '*'),),
    FASEG: FASEG_RULES,
    MASK2FORMER: FASEG_RULES,
    MMSEG_MASK2FORMER: MMSEG_RULES,
    HUGGING_FACE_MASK2FORMER: HUGGING_FACE_RULES,
}


def from_mmseg_keys(entries: Mapping[str, Value]) -> dict[str, Value]:
    """Returns the entries of mmseg's Mask2Former by mmfaseg's keys."""
    return {
        found[0] if (found := map_key(name, MMSEG_RULES)) else name: x
        for name, x in entries.items()
    }


def to_mmseg_key(name: str) -> str:
    """Returns the key in mmseg's Mask2Former for one in mmfaseg."""
    found = map_key(name, MMSEG_RULES, reverse=True)
    return found[0] if found else name
