#!/bin/bash
# What the server is made of under ThreadSanitizer: its layers' tests, and its suites against the real process.
source "$(dirname "$0")/step.sh"
tools/build.sh tsan dunlin base_test serve_test http_test grpc_test
export TSAN_OPTIONS=${TSAN_OPTIONS:-suppressions=$ROOT/tools/tsan.supp}
for layer in base serve http grpc; do
  step "$layer under TSan" "build/tsan/src/$layer/${layer}_test" --gtest_brief=1
done
logs=$(mktemp -d)
trap 'rm -rf "$logs"' EXIT
for suite in tests/server/*_test.py; do
  TSAN_OPTIONS="$TSAN_OPTIONS log_path=$logs/$(basename "$suite" .py)" step "$(basename "$suite") under TSan" \
    /usr/bin/python3 "$suite" build/tsan/dunlin || echo "a suite failed, which under TSan may be for want of speed"
done
[[ -z $(ls "$logs") ]] || { cat "$logs"/*; die "ThreadSanitizer found something"; }
