#!/usr/bin/env bash
# Distributed training on one or several machines.
#   tools/dist_train.sh CONFIG GPUS [arguments of train.py]
# Environment for several machines: NNODES, NODE_RANK, MASTER_ADDR, PORT.
set -euo pipefail

if (( $# < 2 )); then
  echo "usage: $0 CONFIG GPUS [arguments of train.py]" >&2
  exit 2
fi
config=$1
gpus=$2
tools=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

PYTHONPATH="${tools}/..${PYTHONPATH:+:${PYTHONPATH}}" \
  exec "${PYTHON:-python}" -m torch.distributed.run \
  --nnodes="${NNODES:-1}" \
  --node_rank="${NODE_RANK:-0}" \
  --master_addr="${MASTER_ADDR:-127.0.0.1}" \
  --master_port="${PORT:-29500}" \
  --nproc_per_node="${gpus}" \
  "${tools}/${MMFASEG_TOOL:-train.py}" --launcher pytorch "${config}" "${@:3}"
