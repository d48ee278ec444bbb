_base_ = './faseg_efficientnet-lite0_1xb4-1k_camvid-192x256.py'

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
