#!/usr/bin/python3
"""Compiles every header of src/ alone, with the flags of its layer: a header must include what it uses.

    tools/check_headers.py [build folder with compile_commands.json]
"""

import concurrent.futures
import json
import os
import pathlib
import shlex
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent


def layer_flags(database):
    """layer → compiler and the flags that decide what a header sees."""
    flags = {}
    for entry in json.loads(database.read_text()):
        path = pathlib.Path(entry["file"])
        if path.is_relative_to(ROOT / "src"):
            words = shlex.split(entry["command"])
            words = words[1:] if "ccache" in words[0] else words
            kept, take = [], False
            for word in words[1:]:
                if take or word.startswith(("-I", "-D", "-std", "-m")) or word == "-isystem":
                    kept.append(word)
                take = word == "-isystem"
            flags.setdefault(path.relative_to(ROOT / "src").parts[0], [words[0], *kept])
    return flags


def compile_alone(header, flags):
    command = [*flags, "-fsyntax-only", "-x", "c++", "-include", str(header), "/dev/null"]
    result = subprocess.run(command, capture_output=True, text=True)
    return "" if result.returncode == 0 else f"{header.relative_to(ROOT)} does not compile alone:\n{result.stderr}"


def main():
    build = pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "build/release"
    flags = layer_flags(build / "compile_commands.json")
    headers = sorted((ROOT / "src").rglob("*.h"))
    known = [header for header in headers if header.relative_to(ROOT / "src").parts[0] in flags]
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        jobs = [pool.submit(compile_alone, header, flags[header.relative_to(ROOT / "src").parts[0]])
                for header in known]
        problems = [job.result() for job in jobs if job.result()]
    problems += [f"{header}: its layer is not built" for header in headers if header not in known]
    print("\n".join(problems) if problems else f"headers: all {len(headers)} compile alone")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
