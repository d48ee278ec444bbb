_base_ = './faseg_r18_1xb8-1k_shapes-128x128.py'

# windows chosen by the attention at stride 8
model = dict(
    decode_head=dict(
        transformer_decoder=dict(high_res_attention=dict(importance_stride=8)),
    )
)
