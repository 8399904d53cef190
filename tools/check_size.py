#!/usr/bin/python3
"""Fails on files over 800 lines and functions over 80, unless tools/size_exceptions.txt gives a reason.

    tools/check_size.py [root]

The exceptions file has lines "path: reason" (a file) and "path function: reason" (a function). An exception that is
no longer needed is a failure too, so the list cannot rot.
"""

import ast
import collections
import pathlib
import re
import subprocess
import sys

MAX_FILE = 800
MAX_FUNCTION = 80
CODE = {".cc", ".h", ".py", ".mjs", ".js", ".sh", ".css", ".html"}
# Comments, strings and preprocessor lines may hold braces that are no blocks.
NOISE = re.compile(
    r'//[^\n]*|/\*.*?\*/|R"([^(\s]*)\(.*?\)\1"|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])+\'(?!\w)'
    r"|^[ \t]*#(?:\\\n|[^\n])*", re.S | re.M)
CONTAINER = re.compile(r"\b(namespace|class|struct|union|enum|extern)\b")


def blank_noise(text):
    """The same text, line for line, without comments, strings and preprocessor lines."""
    return NOISE.sub(lambda match: re.sub(r"[^\n]", " ", match[0]), text)


def drop_template_head(head):
    match = re.match(r"\s*template\s*<", head)
    if not match:
        return head
    depth, i = 1, match.end()
    while i < len(head) and depth:
        depth += {"<": 1, ">": -1}.get(head[i], 0)
        i += 1
    return drop_template_head(head[i:])


def function_name(head):
    """The name of the function whose body follows this text, or None when a scope or a value follows."""
    head = re.sub(r"\balignas\s*\([^)]*\)|__attribute__\s*\(\(.*?\)\)", "", drop_template_head(head))
    head = re.sub(r"^\s*(?:public|private|protected)\s*:", "", head).strip()
    container = CONTAINER.search(head)
    paren = head.find("(")
    if paren < 0 or (container and container.start() < paren) or head[-1] in "=,(":
        return None
    lambda_start = re.search(r"(\w+)\s*=\s*\[", head[:paren])
    name = re.search(r"(~?\w+|operator\s*\S+)\s*$", head[:paren])
    found = lambda_start or name
    if found and re.fullmatch(r"TEST\w*", found[1]):  # TEST(Suite, Name)
        return ".".join(re.findall(r"\w+", head[paren:]))
    return re.sub(r"\s+", "", found[1]) if found else None


def cc_functions(text):
    """(name, first line, lines) of every function body; what is nested in one counts as part of it."""
    text = blank_noise(text)
    line, head_start, head_line = 1, 0, None
    depth, inside = 0, None  # inside: (name, first line, depth) of the function we are in
    for i, c in enumerate(text):
        if c == "\n":
            line += 1
        elif c == "{":
            depth += 1
            if inside is None:
                name = function_name(text[head_start:i])
                inside = (name, head_line, depth) if name else None
        elif c == "}":
            if inside and inside[2] == depth:
                yield inside[0], inside[1], line - inside[1] + 1
                inside = None
            depth -= 1
        if c in "{};" and inside is None:
            head_start, head_line = i + 1, None
        elif head_line is None and not c.isspace():
            head_line = line


def py_functions(text):
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            yield node.name, node.lineno, node.end_lineno - node.lineno + 1


def functions(path, text):
    if path.suffix in (".cc", ".h"):
        return cc_functions(text)
    return py_functions(text) if path.suffix == ".py" else ()


def read_exceptions(path):
    exceptions = {}
    for number, line in enumerate(path.read_text().splitlines() if path.exists() else [], 1):
        line = line.strip()
        if line and not line.startswith("#"):
            subject, _, reason = line.partition(":")
            if not reason.strip():
                raise SystemExit(f"{path}:{number}: an exception needs a reason: 'path [function]: reason'")
            exceptions[subject.strip()] = reason.strip()
    return exceptions


def oversized(root, paths):
    """subject → complaint, for all that is too long."""
    found = {}
    for path in paths:
        text = (root / path).read_text(errors="replace")
        lines = text.count("\n")
        if lines > MAX_FILE:
            found[str(path)] = f"{path}: {lines} lines (at most {MAX_FILE})"
        for name, line, length in functions(path, text):
            if length > MAX_FUNCTION:
                found[f"{path} {name}"] = f"{path}:{line}: {name} has {length} lines (at most {MAX_FUNCTION})"
    return found


def check(root, paths):
    root = pathlib.Path(root)
    exceptions = read_exceptions(root / "tools/size_exceptions.txt")
    found = oversized(root, [path for path in paths if path.suffix in CODE])
    problems = [complaint for subject, complaint in found.items() if subject not in exceptions]
    problems += [f"tools/size_exceptions.txt: '{subject}' is within the limits, remove its line"
                 for subject in exceptions if subject not in found]
    return problems


def tracked(root):
    listing = subprocess.run(["git", "ls-files", "-co", "--exclude-standard"], cwd=root, check=True,
                             capture_output=True, text=True)
    paths = [pathlib.Path(name) for name in listing.stdout.splitlines()]
    return [path for path in paths if (pathlib.Path(root) / path).is_file()]


def layer_lines(root, paths):
    """Lines of product code per layer: the figure to watch when a change claims to simplify."""
    lines = collections.Counter()
    for path in paths:
        if path.parts[0] == "src" and path.suffix in (".cc", ".h") and not path.stem.endswith(("_test", "_bench")):
            lines[path.parts[1]] += (pathlib.Path(root) / path).read_text(errors="replace").count("\n")
    return lines


def main():
    root = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else pathlib.Path(__file__).resolve().parent.parent)
    paths = tracked(root)
    problems = check(root, paths)
    lines = layer_lines(root, paths)
    print("lines per layer: " + ", ".join(f"{layer} {count}" for layer, count in sorted(lines.items())))
    print("\n".join(problems) if problems else "sizes: every file and function is within the limits")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
