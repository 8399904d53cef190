# Sourced by the scripts of this folder: where we are, and steps that say what they do and how long it took.
# shellcheck shell=bash
set -euo pipefail
ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$ROOT"
JOBS=$(nproc)
# Compiled objects are shared between clones: paths below the root are hashed relative to the build folder.
export CCACHE_BASEDIR=${CCACHE_BASEDIR:-$ROOT} CCACHE_NOHASHDIR=${CCACHE_NOHASHDIR:-1}
# Precompiled headers: ccache only caches their users when it may ignore these.
export CCACHE_SLOPPINESS=${CCACHE_SLOPPINESS:-pch_defines,time_macros}

say() { printf '\033[1m== %s\033[0m\n' "$*"; }
die() {
  printf 'error: %s\n' "$*" >&2
  exit 1
}

# step "what it does" command…   runs it, prints the time; the exit code is the command's.
step() {
  local title=$1 start code=0
  shift
  say "$title"
  start=$(date +%s%N)
  "$@" || code=$?
  awk -v ns=$(($(date +%s%N) - start)) -v title="$title" -v code="$code" 'BEGIN {
    printf "-- %s: %s (%.1f s)\n", title, code == 0 ? "done" : "FAILED with code " code, ns / 1e9 }'
  return "$code"
}
