_base_ = './faseg_r18_1xb8-1k_shapes-128x128.py'

# one set of parameters for the three HRCA layers
model = dict(
    decode_head=dict(
        transformer_decoder=dict(share_high_res_layers=True),
    )
)
