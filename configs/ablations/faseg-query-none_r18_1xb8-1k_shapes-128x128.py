_base_ = './faseg_r18_1xb8-1k_shapes-128x128.py'

# no positional queries
model = dict(
    decode_head=dict(
        transformer_decoder=dict(
            positional_query=dict(
                _delete_=True, type='mmfaseg.NoPositionalQuery'
            )
        ),
    )
)
