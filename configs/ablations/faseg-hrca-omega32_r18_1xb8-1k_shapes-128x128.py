_base_ = './faseg_r18_1xb8-1k_shapes-128x128.py'

# one window of 16 instead of two
model = dict(
    decode_head=dict(
        transformer_decoder=dict(high_res_attention=dict(omega=32)),
    )
)
