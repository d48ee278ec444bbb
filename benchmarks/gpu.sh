#!/usr/bin/env bash
# Tests and measures mmfaseg on one GPU in at most 10 minutes.
#
#   benchmarks/gpu.sh OUT
#
# Builds the operators, runs their tests, times operators and models, and trains
# FASeg and Mask2Former on data/CamVid. Each part has a time limit and writes
# OUT/PART.log, and OUT/PART.json if it has results. Repeating the command skips
# the parts that have passed and continues the training. Exits with status 1 if
# a part has failed or the time was not sufficient for all parts.
#
# Variables: PYTHON (python), DEVICE (cuda), SIZE (512x512), SECONDS_EACH (1),
# ITERATIONS (1000), PARTS (all), LIMIT_FACTOR (1). For a trial on a CPU:
#
#   DEVICE=cpu SIZE=64x64 SECONDS_EACH=0 ITERATIONS=2 LIMIT_FACTOR=10 \
#     benchmarks/gpu.sh OUT
set -uo pipefail

OUT=$(mkdir -p "${1:?usage: benchmarks/gpu.sh OUT}" && cd "$1" && pwd)
cd "$(dirname "${BASH_SOURCE[0]}")/.."
export PYTHONPATH="$PWD${PYTHONPATH:+:$PYTHONPATH}"
PYTHON=${PYTHON:-python}
DEVICE=${DEVICE:-cuda}
SIZE=${SIZE:-512x512}
SECONDS_EACH=${SECONDS_EACH:-1}
ITERATIONS=${ITERATIONS:-1000}
BUILD_ENV=(env)
if [[ $DEVICE == cuda ]]; then
  BUILD_ENV+=(FORCE_CUDA=1)
fi
TOTAL=$((590 * ${LIMIT_FACTOR:-1}))  # seconds
failed=()

# run PART LIMIT COMMAND...: runs a command for at most LIMIT seconds, and
# within the total time.
run() {
  local part=$1 limit=$(($2 * ${LIMIT_FACTOR:-1})) start=$SECONDS status
  shift 2
  if [[ -e $OUT/$part.passed ]] ||
    [[ -n ${PARTS:-} && " $PARTS " != *" $part "* ]]; then
    return
  fi
  if ((start >= TOTAL)); then
    failed+=("$part")
    echo "$part: no time left; repeat the command"
    return
  fi
  limit=$((limit < TOTAL - start ? limit : TOTAL - start))
  timeout --kill-after=10 "$limit" "$@" >"$OUT/$part.log" 2>&1
  status=$?
  if ((status == 0)); then
    touch "$OUT/$part.passed"
    echo "$part: passed in $((SECONDS - start)) s"
  else
    failed+=("$part")
    echo "$part: failed with status $status, see $OUT/$part.log"
    tail -n 5 "$OUT/$part.log"
  fi
}

# bench PART LIMIT OPTION...: times the models.
bench() {
  local part=$1 limit=$2
  shift 2
  run "$part" "$limit" "$PYTHON" benchmarks/bench_model.py \
    --device "$DEVICE" --sizes "$SIZE" --seconds "$SECONDS_EACH" \
    --json "$OUT/$part.json" "$@"
}

run build 120 "${BUILD_ENV[@]}" "$PYTHON" setup.py build_ext --inplace
MMFASEG_TEST_DEVICE=$DEVICE run test_ops 120 \
  "$PYTHON" -m pytest -q tests/test_ops/test_compiled.py
run bench_ops 60 "$PYTHON" benchmarks/bench_ops.py --device "$DEVICE" \
  --sizes '512x512 B=1' '512x512 B=8' --seconds "$SECONDS_EACH" \
  --json "$OUT/bench_ops.json"
for batch in 1 8; do
  bench "model_float32_batch$batch" 40 --batch "$batch"
  for dtype in bfloat16 float16; do
    bench "model_${dtype}_batch$batch" 40 --batch "$batch" --amp "$dtype"
  done
done
bench training_float32 40 --stages whole --train "$SIZE"
bench training_bfloat16 40 --stages whole --train "$SIZE" \
  --amp bfloat16
bench compile_float32 120 --stages whole --compile default reduce-overhead
bench compile_bfloat16 120 --stages whole --compile default reduce-overhead \
  --amp bfloat16
run camvid 300 "$PYTHON" tools/analysis_tools/study.py \
  configs/ablations_camvid/{mask2former,faseg}_*-1k_*.py --baseline mask2former \
  --seeds 0 --jobs 2 --out "$OUT/camvid" --cfg-options \
  "train_cfg.max_iters=$ITERATIONS" "train_cfg.val_interval=$ITERATIONS"

((${#failed[@]} == 0)) || {
  echo "failed: ${failed[*]}"
  exit 1
}
