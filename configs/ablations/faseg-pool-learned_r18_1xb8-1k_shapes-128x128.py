_base_ = './faseg_r18_1xb8-1k_shapes-128x128.py'

# the first positional query from the learned part alone
model = dict(
    decode_head=dict(
        transformer_decoder=dict(positional_query=dict(init_pool='learned')),
    )
)
