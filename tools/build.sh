#!/bin/bash
# Configures and builds one preset into build/PRESET, whatever state that folder is in.
#   tools/build.sh release [target…]
source "$(dirname "$0")/step.sh"
preset=${1:?preset: release, dev, asan, tsan or fuzz}
shift
dir=build/$preset

cached() { sed -n "s|^$1:[A-Z]*=||p" "$dir/CMakeCache.txt" 2>/dev/null; }

# Why the folder cannot be used as it is; nothing when it can.
stale() {
  [[ -e $dir ]] || return 0
  [[ -f $dir/CMakeCache.txt ]] || { echo "it has no CMake cache"; return; }
  [[ $(cached CMAKE_GENERATOR) == Ninja ]] || { echo "it was made for '$(cached CMAKE_GENERATOR)'"; return; }
  [[ $(cached CMAKE_HOME_DIRECTORY) == "$ROOT" ]] || { echo "it belongs to $(cached CMAKE_HOME_DIRECTORY)"; return; }
  command -v "$(cached CMAKE_CXX_COMPILER)" >/dev/null || { echo "its compiler is gone"; return; }
}

# A build as root followed by one as a user leaves files that the user cannot replace.
own_build_folder() {
  [[ -e build && -n $(find build ! -writable -print -quit) ]] || return 0
  command -v sudo >/dev/null || die "build/ has files of another user: remove it, or run as that user"
  echo "taking over files of another user in build/"
  sudo chown -R "$(id -u):$(id -g)" build
}

configure() {
  cmake --preset "$preset" >"$1" 2>&1
}

prepare() {
  local reason log
  own_build_folder
  reason=$(stale)
  if [[ -n $reason ]]; then
    echo "removing $dir: $reason"
    rm -rf "$dir"
  fi
  mkdir -p "$dir"
  [[ -f $dir/build.ninja && -z $(find CMakePresets.json -newer "$dir/build.ninja") ]] && return 0
  log=$dir/configure.log
  configure "$log" && return 0
  echo "configuring failed, trying once more in an empty $dir"
  find "$dir" -mindepth 1 -delete
  configure "$log" || { cat "$log"; return 1; }
}

compile() {
  local log=$dir/build.log code=0
  cmake --build "$dir" --parallel "$JOBS" ${1:+--target "$@"} 2>&1 | tee "$log" || code=$?
  [[ $code -eq 0 ]] && return 0
  grep -q '^ninja: error:' "$log" || return "$code"
  echo "the build files are damaged, starting over in an empty $dir"
  find "$dir" -mindepth 1 -delete
  prepare
  cmake --build "$dir" --parallel "$JOBS" ${1:+--target "$@"}
}

step "configure $preset" prepare
step "build $preset${1:+: $*}" compile "$@"
