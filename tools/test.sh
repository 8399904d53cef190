#!/bin/bash
# Installs what is missing, builds everything, runs every test. Arguments go to ctest (-R resnet).
source "$(dirname "$0")/step.sh"
step "Debian packages" tools/setup.sh build run test
tools/build.sh release
step "sample models" build/release/dunlin models fetch --all --dir build/models || fetched=no
step "ONNX Runtime, the peer" tools/fetch_ort.sh || fetched=no
[[ -z ${fetched:-} ]] || echo "parity with ONNX Runtime will be reported as skipped"
step "tests" ctest --preset release --parallel "$JOBS" "$@"
