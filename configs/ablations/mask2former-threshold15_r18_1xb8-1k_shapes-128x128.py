_base_ = './mask2former_r18_1xb8-1k_shapes-128x128.py'

# Mask2Former with the threshold of FASeg
model = dict(
    decode_head=dict(
        transformer_decoder=dict(masked_attention=dict(mask_threshold=0.15))
    )
)
