_base_ = './base_tiny.py'

model = dict(
    decode_head=dict(
        transformer_decoder=dict(
            layer=dict(type='ScaledDecoderLayer', init_scale=0.8)
        )
    )
)
