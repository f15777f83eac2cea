#!/bin/sh
# Checks a machine with a GPU, compares what it computes with the CPU, and times models.
#
#   ./run.sh [DEVICE]        # cuda by default; cuda:1, or 0,1,2,3
#
# Writes results/results.json, and the log of each step beside it. Goes on where a step fails, and
# ends with the number of steps that did.
#
# SHAPES        shapes that are timed             (tiny 8m qwen2.5-0.5b)
# TOLERANCE     relative difference to the CPU that passes; products of f32 may run in TF32   (5e-3)
# ZS_KERNEL_CACHE   where compiled and tuned kernels are kept                            (./kernels)
set -u
cd "$(dirname "$0")" || exit 1
device=${1:-cuda}
results=results
ZS_KERNEL_CACHE=${ZS_KERNEL_CACHE:-$PWD/kernels}
export ZS_KERNEL_CACHE
mkdir -p "$results"
rm -f "$results"/*.json "$results"/*.log
steps=
reports=
num_failed=0

# step NAME COMMAND...: runs a command whose report, if it writes one, is results/NAME.json. The variables of
# sh are all global, so its own have names of their own.
step() {
    step_name=$1
    shift
    start=$(date +%s)
    "$@" >"$results/$step_name.log" 2>&1
    code=$?
    seconds=$(($(date +%s) - start))
    echo "$step_name: exit $code after $seconds s"
    [ $code -eq 0 ] || num_failed=$((num_failed + 1))
    steps="$steps${steps:+,}
  {\"step\": \"$step_name\", \"exit\": $code, \"seconds\": $seconds}"
    if [ -s "$results/$step_name.json" ]; then
        reports="$reports${reports:+,}
  \"$step_name\": $(cat "$results/$step_name.json")"
    fi
}

step doctor ./zs --device "$device" doctor --json "$results/doctor.json"

for model in models/*/; do
    model=${model%/}
    name=$(basename "$model")
    golden=$results/$name.golden.safetensors
    step "golden-$name" ./zs --device cpu verify --model "$model" --write "$golden"
    step "verify-$name" ./zs --device "$device" verify --model "$model" --golden "$golden" \
        --tolerance "${TOLERANCE:-5e-3}" --json "$results/verify-$name.json"
    for own in "$model"/golden.safetensors "$model"/golden.json; do
        [ -f "$own" ] || continue
        step "verify-$name-golden" ./zs --device "$device" verify --model "$model" --golden "$own" \
            --tolerance "${TOLERANCE:-5e-3}" --json "$results/verify-$name-golden.json"
    done
done

step warm-up ./zs --device "$device" warm-up --model models/zs-tiny --rows 64 --tokens 256 \
    --update-rows 64 --json "$results/warm-up.json"

# The first run compiles and tunes what a shape needs, the second one is what counts.
for shape in ${SHAPES:-tiny 8m qwen2.5-0.5b}; do
    step "bench-$shape-first" ./zs bench-model "$shape" --device "$device" --tries 1 \
        --json "$results/bench-$shape-first.json"
    step "bench-$shape" ./zs bench-model "$shape" --device "$device" \
        --json "$results/bench-$shape.json"
done

rm -f "$results"/*.golden.safetensors
printf '{"device": "%s", "failed": %d, "steps": [%s\n], "reports": {%s\n}}\n' \
    "$device" "$num_failed" "$steps" "$reports" >"$results/results.json"
echo "wrote $results/results.json; $num_failed steps failed"
exit "$num_failed"
