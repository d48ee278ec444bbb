_base_ = './faseg_r18_1xb8-1k_shapes-128x128.py'

# K_p as in DETR
model = dict(
    decode_head=dict(
        pixel_decoder=dict(
            positional_encoding=dict(type='mmfaseg.SinePositionalEncoding')
        ),
    )
)
