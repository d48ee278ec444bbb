_base_ = './base_tiny.py'

model = dict(
    decode_head=dict(
        pixel_decoder=dict(positional_encoding=dict(type='CoordinateEncoding'))
    )
)
