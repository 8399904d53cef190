#!/usr/bin/python3
"""What --compute bf16 changes in answers: `dunlin compare` of a model with itself.

    bench/bf16.py [ppocr_rec ppocr_cls …] [--sets 40] [--seed 1] [--threads 0]

Text readers get lines of words that are drawn; other models of bench/models.json generated inputs. The
first two figures are this machine's, the last two what a processor with AVX512-BF16 answers (DUNLIN_BF16=emulated).
Error: the root of the mean square of the difference over that of the output.
"""

import argparse
import json
import os
import pathlib
import random
import subprocess
import sys
import tempfile

import numpy as np

import compare

sys.path.insert(0, str(compare.ROOT / "tests/parity"))
import cases  # noqa: E402
import inputs  # noqa: E402

DUNLIN = compare.ROOT / "build/release/dunlin"
WORDS = ("engine memory tensor kernel quick brown jumps over lazy small fast batches Total Invoice Street London 2026 1984 "
         "37.50 No. 12 Room Open Exit Please wait here for the next train to York and mind gap").split()


def lines(model, count, seed, folder):
    generator = random.Random(seed)
    for i in range(count):
        image = inputs.text_line(" ".join(generator.choices(WORDS, k=generator.randint(1, 5))), margin=generator.randint(6, 16))
        if model == "ppocr_cls":
            image = np.pad(image[:, :192], ((0, 0), (0, max(0, 192 - image.shape[1])), (0, 0)), constant_values=255)
            image = np.rot90(image, 2 * (i % 2))
        np.save(f"{folder}/{i:03}.npy", cases.nchw(image, 0.5, 0.5))


def difference(path, options, emulated):
    environment = dict(os.environ, DUNLIN_BF16="emulated" if emulated else "")
    command = [DUNLIN, "compare", path, path, "--compute-b", "bf16", "--layer-inputs", "0", "--json", *options]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True, env=environment).stdout)["outputs"][0]


def describe(output):
    error = 0 if output["equal"] else 10 ** (-output["sqnr_db"] / 20)
    return f"{error:.1e} | {100 * output['rows_agreed'] / output['rows']:.2f} % of {output['rows']}"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", default=["ppocr_rec", "ppocr_cls"])
    parser.add_argument("--sets", type=int, default=40)
    parser.add_argument("--seed", type=int, default=1, help="of the lines' words")
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--samples", type=pathlib.Path, default=compare.ROOT / "build/models", help="repository of sample models")
    args = parser.parse_args()
    entries = compare.load_entries()
    print("| model | inputs | error | best agrees | error, emulated | best agrees |\n|---|---|---:|---:|---:|---:|")
    for name in args.models:
        model = entries[name]
        with tempfile.TemporaryDirectory() as folder:
            drawn = name in ("ppocr_rec", "ppocr_cls")
            options = ["--threads", str(args.threads), *(["--data", folder] if drawn else ["--random", str(args.sets)])]
            if drawn:
                lines(name, args.sets, args.seed, folder)
            for key, spec in ({} if drawn else model["inputs"]).items():
                options += ["--shape", key + "=" + ",".join(str(1 if d == "batch" else d) for d in spec["shape"])]
                options += ["--fill", f"{key}={spec['fill']}"] if "fill" in spec else []
            path = compare.model_path(model, args.samples.resolve())
            shown = [describe(difference(path, options, emulated)) for emulated in (False, True)]
            print(f"| {name} | {args.sets} {'lines of text' if drawn else 'generated'} | " + " | ".join(shown) + " |", flush=True)


main()
