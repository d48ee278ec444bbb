_base_ = './faseg_r18_1xb8-1k_shapes-128x128.py'

# two cycles of four levels
model = dict(
    decode_head=dict(
        transformer_decoder=dict(num_layers=9),
    )
)
