_base_ = './base_tiny.py'

model = dict(
    decode_head=dict(
        pixel_decoder=dict(
            positional_encoding=dict(type='CoordinateEncoding')
        ),
        transformer_decoder=dict(
            type='UnitMaskDecoder',
            layer=dict(type='ScaledDecoderLayer', init_scale=0.8),
            positional_query=dict(_delete_=True, type='GatedQuery'),
            high_res_attention=dict(
                _delete_=True, type='UncertainWindowAttention', count=1
            ),
        ),
        loss=dict(type='MaskOnlyMatchingLoss'),
    )
)
