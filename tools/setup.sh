#!/bin/bash
# Installs the Debian packages that the named groups of tools/packages.txt ask for and that are missing.
#   tools/setup.sh build run        (no group: all)
# A machine that has everything is left alone: no network, no sudo, no time.
source "$(dirname "$0")/step.sh"

wanted=()
groups=" $* "
while read -r group package _; do
  [[ -z $group || $group == \#* ]] && continue
  [[ $# -gt 0 && $groups != *" $group "* ]] && continue
  if [[ $package == */* ]]; then
    command -v "${package#*/}" >/dev/null && continue
    package=${package%/*}
  fi
  wanted+=("$package")
done <tools/packages.txt

command -v dpkg-query >/dev/null || die "this is not Debian: install what tools/packages.txt lists by hand"
installed=$(dpkg-query -W -f='${db:Status-Status} ${Package}\n' "${wanted[@]}" 2>/dev/null | sed -n 's/^installed //p' || true)
mapfile -t missing < <(comm -23 <(printf '%s\n' "${wanted[@]}" | sort -u) <(sort -u <<<"$installed"))
[[ ${#missing[@]} -eq 0 || -z ${missing[0]} ]] && { echo "all $(printf '%s\n' "${wanted[@]}" | sort -u | wc -l) packages are installed"; exit 0; }

as_root=()
if [[ $(id -u) -ne 0 ]]; then
  command -v sudo >/dev/null || die "missing packages: ${missing[*]}; run as root: apt-get install ${missing[*]}"
  as_root=(sudo)
fi
echo "installing ${missing[*]}"
apt() { "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -q "$@"; }
apt update || die "apt-get update failed: is the package mirror reachable?"
apt install -y --no-install-recommends "${missing[@]}" || die "apt-get install ${missing[*]} failed"
