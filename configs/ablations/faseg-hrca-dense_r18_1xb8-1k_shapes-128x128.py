_base_ = './faseg_r18_1xb8-1k_shapes-128x128.py'

# all windows
model = dict(
    decode_head=dict(
        transformer_decoder=dict(
            high_res_attention=dict(
                _delete_=True, type='mmfaseg.DenseCrossAttention'
            )
        ),
    )
)
