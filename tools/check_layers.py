#!/usr/bin/python3
"""Checks that every file of src/ includes only what src/layers.txt allows, and that CMake links the same.

    tools/check_layers.py [root]

A line "name: a b" of layers.txt lets files of src/name include "a/…", "b/…" and their own layer; a line "<lib>: a b"
lets only those layers include <lib/…> or <lib.h>. Libraries that are not listed are free.
"""

import pathlib
import re
import sys

INCLUDE = re.compile(r'^\s*#\s*include\s*(?:"([^"]+)"|<([^>]+)>)')
USES = re.compile(r"dunlin_layer\(\s*(\w+)([^)]*)\)")
GROUPS = ("LIBS", "SRCS")


def read_rules(path):
    layers, libraries = {}, {}
    for number, line in enumerate(path.read_text().splitlines(), 1):
        line = line.split("#")[0].strip()
        if not line:
            continue
        name, colon, rest = line.partition(":")
        if not colon:
            raise SystemExit(f"{path}:{number}: expected 'name: names', got '{line}'")
        name = name.strip()
        table = libraries if name.startswith("<") else layers
        table[name.strip("<>")] = set(rest.split())
    return layers, libraries


def check_include(layer, quoted, angled, layers, libraries):
    """The complaint about one include, or None."""
    top = (quoted or "").split("/")[0]
    if top in libraries and top not in layers:  # Highway's headers are written so
        quoted, angled = None, quoted
    if quoted:
        target = quoted.split("/")[0]
        if "/" not in quoted or target not in layers:
            # Files that the build generates (protobuf, operator registry) carry no layer.
            return None if quoted.endswith(".pb.h") else f'"{quoted}" names no layer: write "layer/file.h"'
        if target != layer and target not in layers[layer]:
            return f'layer {layer} may not include "{quoted}" (layer {target})'
        return None
    library = re.split(r"[/.]", angled)[0]
    if library in libraries and layer not in libraries[library]:
        return f"layer {layer} may not include <{angled}>: only {', '.join(sorted(libraries[library]))}"
    return None


def check_sources(source, layers, libraries):
    problems = []
    for path in sorted(source.rglob("*")):
        if path.suffix not in (".h", ".cc"):
            continue
        layer = path.relative_to(source).parts[0]
        if layer not in layers:
            problems.append(f"{path}: folder '{layer}' is no layer of {source}/layers.txt")
            continue
        for number, line in enumerate(path.read_text(errors="replace").splitlines(), 1):
            match = INCLUDE.match(line)
            complaint = match and check_include(layer, match[1], match[2], layers, libraries)
            if complaint:
                problems.append(f"{path}:{number}: {complaint}")
    return problems


def check_links(source, layers):
    """CMake's USES of a layer must be within its line of layers.txt."""
    problems = []
    for path in sorted(source.rglob("CMakeLists.txt")):
        for name, rest in USES.findall(path.read_text()):
            used, group = set(), None
            for word in rest.split():
                group = word if word in ("USES", *GROUPS) else group
                if group == "USES" and word != "USES":
                    used.add(word)
            for extra in sorted(used - layers.get(name, set())):
                problems.append(f"{path}: {name} links {extra}, which layers.txt does not allow")
    return problems


def check_order(layers):
    """A layer may use only layers listed before it, so that there is no cycle."""
    seen, problems = set(), []
    for name, uses in layers.items():
        problems += [f"layers.txt: {name} uses {use}, which is not listed before it" for use in sorted(uses - seen)]
        seen.add(name)
    return problems


def check(root):
    source = pathlib.Path(root) / "src"
    layers, libraries = read_rules(source / "layers.txt")
    return check_order(layers) + check_sources(source, layers, libraries) + check_links(source, layers)


def main():
    root = sys.argv[1] if len(sys.argv) > 1 else pathlib.Path(__file__).resolve().parent.parent
    problems = check(root)
    print("\n".join(problems) if problems else "layers: every include is allowed")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
