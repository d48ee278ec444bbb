_base_ = './base_tiny.py'

model = dict(
    decode_head=dict(
        transformer_decoder=dict(
            high_res_attention=dict(
                _delete_=True, type='UncertainWindowAttention', count=1
            )
        )
    )
)
