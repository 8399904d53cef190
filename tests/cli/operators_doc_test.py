"""docs/operators.md is what the program writes today."""

import subprocess
import sys

program, document = sys.argv[1:]
written = subprocess.run([program, "ops", "--markdown"], capture_output=True, text=True, check=True).stdout
with open(document, encoding="utf-8") as file:
    kept = file.read()
if written != kept:
    old, new = kept.splitlines(), written.splitlines()
    for line in [x for x in old if x not in new][:5]:
        print("-", line)
    for line in [x for x in new if x not in old][:5]:
        print("+", line)
    sys.exit("docs/operators.md is out of date: dunlin ops --markdown > docs/operators.md")
