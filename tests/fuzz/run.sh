#!/bin/bash
# Fuzzes the model importer for some seconds: tests/fuzz/run.sh [SECONDS]. What it finds worth keeping stays in build/fuzz-corpus,
# what breaks it in build/fuzz-findings.
source "$(dirname "$0")/../../tools/step.sh"
seconds=${1:-60}
mkdir -p build/fuzz-corpus build/fuzz-findings
python3 tests/fuzz/make_seeds.py build/fuzz-seeds
more=(build/fuzz-seeds)
[[ -d /usr/share/libonnx-testdata/data/node ]] && more+=(/usr/share/libonnx-testdata/data/node)
export ASAN_OPTIONS=allocator_may_return_null=1:detect_leaks=1
# A model is read in milliseconds: 10 s, and 2 GiB for at most 64 KiB of file, are far beyond what is right.
step "fuzz the importer for $seconds s" build/fuzz/fuzz_onnx -max_total_time="$seconds" -max_len=65536 -timeout=10 \
  -rss_limit_mb=2048 -print_final_stats=1 -artifact_prefix=build/fuzz-findings/ build/fuzz-corpus tests/fuzz/corpus "${more[@]}"
