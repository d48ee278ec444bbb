_base_ = './faseg_r18_1xb8-1k_shapes-128x128.py'

# HRCA without DFPQ
model = dict(
    decode_head=dict(
        pixel_decoder=dict(
            positional_encoding=dict(type='mmfaseg.SinePositionalEncoding')
        ),
        transformer_decoder=dict(
            positional_query=dict(
                _delete_=True, type='mmfaseg.LearnedPositionalQuery'
            )
        ),
    )
)
