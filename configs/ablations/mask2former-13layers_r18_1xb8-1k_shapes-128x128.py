_base_ = './mask2former_r18_1xb8-1k_shapes-128x128.py'

# Mask2Former with as many layers as FASeg
model = dict(decode_head=dict(transformer_decoder=dict(num_layers=13)))
