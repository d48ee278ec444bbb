_base_ = './mask2former_r18_shapes.py'

# half as wide, so that a run takes minutes on a CPU
positional_encoding = dict(num_feats=32)
attention = dict(embed_dims=64)
ffn = dict(embed_dims=64, feedforward_channels=256)
model = dict(
    backbone=dict(base_channels=32, stem_channels=32),
    decode_head=dict(
        in_channels=[32, 64, 128, 256],
        feat_channels=64,
        out_channels=64,
        pixel_decoder=dict(
            norm_cfg=dict(num_groups=8),
            encoder=dict(
                num_layers=1,
                layer_cfg=dict(self_attn_cfg=attention, ffn_cfg=ffn),
            ),
            positional_encoding=positional_encoding,
        ),
        positional_encoding=positional_encoding,
        transformer_decoder=dict(
            layer_cfg=dict(
                self_attn_cfg=attention,
                cross_attn_cfg=attention,
                ffn_cfg=ffn,
            ),
        ),
        train_cfg=dict(num_points=400),
    ),
    auxiliary_head=dict(in_channels=64),
)
