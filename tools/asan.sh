#!/bin/bash
# The unit and conformance tests under AddressSanitizer and UndefinedBehaviorSanitizer.
source "$(dirname "$0")/step.sh"
tools/build.sh asan
export ASAN_OPTIONS=${ASAN_OPTIONS:-detect_leaks=1:allocator_may_return_null=1}
export UBSAN_OPTIONS=${UBSAN_OPTIONS:-print_stacktrace=1}
step "tests under ASan and UBSan" ctest --preset asan --parallel "$JOBS" --label-exclude 'parity|bench|slow' "$@"
