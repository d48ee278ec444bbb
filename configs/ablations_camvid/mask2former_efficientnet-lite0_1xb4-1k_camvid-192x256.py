_base_ = './faseg_efficientnet-lite0_1xb4-1k_camvid-192x256.py'

# Mask2Former: three cycles of three levels
model = dict(
    decode_head=dict(
        pixel_decoder=dict(
            positional_encoding=dict(type='mmfaseg.SinePositionalEncoding')
        ),
        transformer_decoder=dict(
            positional_query=dict(
                _delete_=True, type='mmfaseg.LearnedPositionalQuery'
            ),
            high_res_attention=None,
            num_layers=9,
            masked_attention=dict(mask_threshold=0.5),
        ),
    )
)
