_base_ = './faseg_r18_1xb8-1k_shapes-128x128.py'

# the threshold of Mask2Former
model = dict(
    decode_head=dict(
        transformer_decoder=dict(masked_attention=dict(mask_threshold=0.5)),
    )
)
