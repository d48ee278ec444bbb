#!/usr/bin/env bash
# Distributed testing on one or several machines.
#   tools/dist_test.sh CONFIG CHECKPOINT GPUS [arguments of test.py]
# Environment for several machines: see dist_train.sh.
set -euo pipefail

if (( $# < 3 )); then
  echo "usage: $0 CONFIG CHECKPOINT GPUS [arguments of test.py]" >&2
  exit 2
fi
export MMFASEG_TOOL=test.py
exec bash "$(dirname "${BASH_SOURCE[0]}")/dist_train.sh" \
  "$1" "$3" "$2" "${@:4}"
