_base_ = [
    '../_base_/models/faseg_det_r18_study.py',
    '../_base_/datasets/shapes-instance-128x128.py',
    '../_base_/schedules/schedule_det_study.py',
    '../_base_/default_runtime_det.py',
]

# with fewer blocks: learns in minutes on two CPU cores
model = dict(
    panoptic_head=dict(transformer_decoder=dict(num_blocks=5)),
)
