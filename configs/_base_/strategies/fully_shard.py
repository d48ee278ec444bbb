# Each process keeps a share of the parameters, gradients and optimizer states.
# Add it to the _base_ of a config; several processes, see docs/distributed.md.
runner_type = 'FlexibleRunner'
strategy = dict(type='mmfaseg.FullyShardStrategy')
