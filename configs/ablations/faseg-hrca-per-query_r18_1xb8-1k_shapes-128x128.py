_base_ = './faseg_r18_1xb8-1k_shapes-128x128.py'

# every query chooses its own windows
model = dict(
    decode_head=dict(
        transformer_decoder=dict(
            high_res_attention=dict(type='mmfaseg.PerQueryWindowAttention')
        ),
    )
)
