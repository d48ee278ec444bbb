#!/usr/bin/env bash
# Training in a Slurm job.
#   tools/slurm_train.sh PARTITION JOB_NAME CONFIG [arguments of train.py]
# Environment: GPUS, GPUS_PER_NODE, CPUS_PER_TASK, SRUN_ARGS.
set -euo pipefail

if (( $# < 3 )); then
  echo "usage: $0 PARTITION JOB_NAME CONFIG [arguments of train.py]" >&2
  exit 2
fi
partition=$1
job_name=$2
config=$3
gpus=${GPUS:-8}
gpus_per_node=${GPUS_PER_NODE:-$(( gpus < 8 ? gpus : 8 ))}
read -r -a srun_args <<< "${SRUN_ARGS:-}"
tools=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

PYTHONPATH="${tools}/..${PYTHONPATH:+:${PYTHONPATH}}" \
  exec srun -p "${partition}" \
  --job-name="${job_name}" \
  --gres="gpu:${gpus_per_node}" \
  --ntasks="${gpus}" \
  --ntasks-per-node="${gpus_per_node}" \
  --cpus-per-task="${CPUS_PER_TASK:-5}" \
  --kill-on-bad-exit=1 \
  ${srun_args[@]+"${srun_args[@]}"} \
  "${PYTHON:-python}" -u "${tools}/${MMFASEG_TOOL:-train.py}" \
  --launcher slurm "${config}" "${@:4}"
