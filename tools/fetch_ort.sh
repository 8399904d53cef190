#!/bin/bash
# Installs the ONNX Runtime peer of parity tests and benchmarks into build/npm, by pinned version.
source "$(dirname "$0")/step.sh"
version=1.30.0
home=build/npm
have=$(sed -n 's/^  "version": "\(.*\)",$/\1/p' "$home/node_modules/onnxruntime-node/package.json" 2>/dev/null || true)
[[ $have == "$version" ]] && { echo "onnxruntime-node $version is there"; exit 0; }
command -v npm >/dev/null || die "npm is missing: run tools/setup.sh run"
mkdir -p "$home"
# Its install script would fetch GPU libraries from elsewhere; the CPU library is in the package.
npm install --prefix "$home" --no-save --no-audit --no-fund --ignore-scripts --loglevel=error \
  "onnxruntime-node@$version" || die "npm could not install onnxruntime-node@$version"
