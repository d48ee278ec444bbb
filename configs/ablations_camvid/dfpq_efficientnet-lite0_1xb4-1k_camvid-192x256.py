_base_ = './faseg_efficientnet-lite0_1xb4-1k_camvid-192x256.py'

# DFPQ without HRCA
model = dict(
    decode_head=dict(
        transformer_decoder=dict(high_res_attention=None, num_layers=9),
    )
)
