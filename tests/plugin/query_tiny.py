_base_ = './base_tiny.py'

model = dict(
    decode_head=dict(
        transformer_decoder=dict(
            positional_query=dict(_delete_=True, type='GatedQuery', gate=0.2)
        )
    )
)
