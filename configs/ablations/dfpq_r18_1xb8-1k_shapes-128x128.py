_base_ = './faseg_r18_1xb8-1k_shapes-128x128.py'

# DFPQ without HRCA
model = dict(
    decode_head=dict(
        transformer_decoder=dict(high_res_attention=None, num_layers=9),
    )
)
