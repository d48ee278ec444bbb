#!/usr/bin/env bash
# Testing in a Slurm job.
#   tools/slurm_test.sh PARTITION JOB_NAME CONFIG CHECKPOINT [arguments of test.py]
# Environment: see slurm_train.sh.
set -euo pipefail

if (( $# < 4 )); then
  echo "usage: $0 PARTITION JOB_NAME CONFIG CHECKPOINT" \
    "[arguments of test.py]" >&2
  exit 2
fi
export MMFASEG_TOOL=test.py
exec bash "$(dirname "${BASH_SOURCE[0]}")/slurm_train.sh" "$@"
