#!/bin/bash
# Checks that read the sources: tools/lint.sh all | format | check-format | layers | size | headers | tidy
source "$(dirname "$0")/step.sh"

sources() { git ls-files -co --exclude-standard -- '*.cc' '*.h'; }

check_format() {
  sources | xargs -r -P "$JOBS" -n 20 clang-format-14 --dry-run -Werror
}

format() {
  sources | xargs -r -P "$JOBS" -n 20 clang-format-14 -i
}

tidy() {
  tools/build.sh release
  sources | grep '^src/.*\.cc$' | xargs -r -P "$JOBS" -n 4 clang-tidy-14 --quiet -p build/release
}

all() {
  local failed=0
  step "format (clang-format)" check_format || failed=1
  step "layers (src/layers.txt)" tools/check_layers.py || failed=1
  step "sizes of files and functions" tools/check_size.py || failed=1
  step "what the headers need: flags, generated code" tools/build.sh release dunlin_model_config dunlin_onnx_messages \
    dunlin_inference_proto >/dev/null || failed=1
  step "each header compiles alone" tools/check_headers.py || failed=1
  return "$failed"
}

case ${1:-all} in
  all) all ;;
  format) step "format" format ;;
  check-format) step "format (clang-format)" check_format ;;
  layers) tools/check_layers.py ;;
  size) tools/check_size.py ;;
  headers) tools/check_headers.py ;;
  tidy) step "clang-tidy" tidy ;;
  *) die "unknown check '$1'" ;;
esac
