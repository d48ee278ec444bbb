"""Remedies for arguments that the modules of FASeg do not have.

Such arguments come from configs of mmseg's and mmdet's ``Mask2FormerHead``, or
belong to a submodule. Error messages contain the remedies below.
"""

from collections.abc import Mapping

HEAD = {
    'strides': 'remove it, strides are always 4, 8, 16 and 32',
    'out_channels': 'set mask_channels of pixel_decoder and of '
    'transformer_decoder, or remove it if it equals feat_channels',
    'enforce_decoder_input_project': 'remove it, both decoders have '
    'feat_channels channels',
    'num_transformer_feat_level': 'remove it, the transformer decoder '
    'determines the number of levels',
    'positional_encoding': 'set pixel_decoder.positional_encoding, which both '
    'decoders use',
    'loss_cls': 'set loss.loss_cls_weight (its loss_weight), '
    'loss.class_weight and loss.no_object_weight (the last entry of its '
    'class_weight)',
    'loss_mask': 'set loss.loss_mask_weight (its loss_weight)',
    'loss_dice': 'set loss.loss_dice_weight (its loss_weight)',
}
SEMANTIC_HEAD = HEAD | {
    'num_things_classes': 'set num_classes, or use mmfaseg.FASegDetHead for '
    'instance and panoptic segmentation',
    'num_stuff_classes': 'set num_classes, or use mmfaseg.FASegDetHead for '
    'panoptic segmentation',
    'test_cfg': 'set test_cfg of the model',
}
DET_HEAD = HEAD | {
    'num_classes': 'set num_things_classes and num_stuff_classes',
}
PIXEL_DECODER = {
    'strides': 'remove it, strides are always 4, 8, 16 and 32',
    'feat_channels': 'set feat_channels of the head',
    'out_channels': 'set mask_channels of pixel_decoder and of '
    'transformer_decoder',
    'encoder': 'set num_layers, num_heads, num_points and '
    'feedforward_channels of the pixel decoder itself',
    'num_outs': 'remove it, the transformer decoder determines the number of '
    'levels',
    'act_cfg': 'remove it, the activation is always ReLU',
    'init_cfg': 'remove it, the pixel decoder initializes its own weights',
}
TRANSFORMER_DECODER = {
    'layer_cfg': 'set layer.num_heads and layer.feedforward_channels',
    'return_intermediate': 'remove it, all predictions are returned',
    'post_norm_cfg': 'remove it, the normalization is always LayerNorm',
    'init_cfg': 'remove it, the decoder initializes its own weights',
    'num_heads': 'set layer.num_heads',
    'feedforward_channels': 'set layer.feedforward_channels',
    'mask_threshold': "set masked_attention=dict(type='mmfaseg."
    "MaskedCrossAttention', mask_threshold=...)",
    'init_pool': 'set positional_query.init_pool',
    'omega': 'set high_res_attention.omega',
    'window_size': 'set high_res_attention.window_size',
    'importance_stride': 'set high_res_attention.importance_stride',
}
TRAIN_CFG = {
    'num_points': 'set loss.num_points',
    'oversample_ratio': 'set loss.oversample_ratio',
    'importance_sample_ratio': 'set loss.importance_sample_ratio',
    'assigner': 'remove it, the matching costs have the weights of the '
    'losses: loss.loss_cls_weight, loss.loss_mask_weight and '
    'loss.loss_dice_weight',
    'sampler': 'remove it, the loss samples all matches',
}


def check_train_cfg(train_cfg: Mapping | None, head: str) -> None:
    """Raises an error if the ``train_cfg`` of a model or head is not empty.

    Raises:
        ValueError: if there is a key; the message explains where it belongs.
    """
    if train_cfg:
        lines = [
            f'{key}: {TRAIN_CFG.get(key, "remove it")}' for key in train_cfg
        ]
        raise ValueError(
            f'{head} reads no settings from the train_cfg of the model or '
            'head, which has the keys\n  ' + '\n  '.join(lines)
        )
