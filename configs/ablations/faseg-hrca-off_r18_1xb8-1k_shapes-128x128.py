_base_ = './faseg_r18_1xb8-1k_shapes-128x128.py'

# without the three layers at stride 4
model = dict(
    decode_head=dict(
        transformer_decoder=dict(high_res_attention=None, num_layers=10),
    )
)
