#!/usr/bin/python3
"""Times Dunlin against ONNX Runtime: same model, inputs and thread count, in turns in one run.

    bench/compare.py [model…] [--threads 1,2] [--batch 1,8] [--rounds 15] [--markdown FILE] [--json FILE]

A model is a name of bench/models.json. Both engines stay loaded and take turns of equal length, so that a change in
the machine's load meets both. The figure of a round is median(ONNX Runtime) / median(Dunlin): above 1, Dunlin is
faster. The table gives the median over the rounds with the 10th and 90th percentile.
"""

import argparse
import itertools
import json
import math
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

import numpy as np

ROOT = pathlib.Path(__file__).resolve().parent.parent
EXPORTS = ROOT / "build/bench-models"
COMMANDS = {"dunlin": [ROOT / "build/release/bench_worker"], "ort": ["node", ROOT / "tools/ort_worker.mjs"]}
TURN_SECONDS = 0.25  # long enough for a median, short against changes of load
PAUSE_SECONDS = 0.02  # lets the other engine's spinning threads come to rest


class Worker:
    """An engine in its own process, with one model loaded."""

    def __init__(self, command, model, threads, inputs):
        words = [*command, model, "--threads", threads]
        for name, path in inputs.items():
            words += ["--input", f"{name}={path}"]
        self.process = subprocess.Popen([str(word) for word in words], cwd=ROOT, text=True,
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        _, load_ms, *about = self.read().split()
        self.load_ms, self.about = float(load_ms), " ".join(about)

    def read(self):
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"the worker ended with code {self.process.wait()}")
        return line

    def run(self, count):
        """Milliseconds of `count` runs."""
        self.send(count)
        return self.receive()

    def send(self, count):
        self.process.stdin.write(f"{count}\n")
        self.process.stdin.flush()

    def receive(self):
        return [float(word) for word in self.read().split()]

    def close(self):
        self.process.stdin.close()
        self.process.wait(30)


def takes_batch(entry):
    return any("batch" in spec["shape"] for spec in entry["inputs"].values())


def text_picture(height, width, generator):
    """Dark words on a light ground, in lines: samples -1…1 [height, width]."""
    from PIL import Image, ImageDraw, ImageFont  # only for models that read text
    picture = Image.new("L", (width, height), int(generator.integers(200, 256)))
    draw, top = ImageDraw.Draw(picture), 0
    while top < height - 24:
        size = int(generator.integers(20, 33))
        letters = "".join(generator.choice(list("ABCDEFGHKLMNRSTabcdeghiklmnoprstu0123456789   "), max(4, width // size)))
        font = ImageFont.truetype("DejaVuSans.ttf", size)
        draw.text((int(generator.integers(4, 20)), top + 6), letters, int(generator.integers(0, 80)), font)
        top += size + int(generator.integers(12, 40))
    return np.asarray(picture, np.float32) / 127.5 - 1


def make_input(spec, batch, generator):
    kind, shape = np.dtype(spec.get("type", "float32")), [batch if n == "batch" else n for n in spec["shape"]]
    if spec.get("content") == "text":
        planes = [text_picture(*shape[-2:], generator) for _ in range(shape[0])]
        return np.ascontiguousarray(np.broadcast_to(np.stack(planes)[:, None], shape))
    if "fill" in spec:
        return np.full(shape, spec["fill"], kind)
    if kind.kind == "f":
        return generator.uniform(-1, 1, shape).astype(kind)
    return generator.integers(0, spec.get("below", 2), shape).astype(kind)


def model_path(entry, samples):
    if "export" in entry:
        path = EXPORTS / f"{entry['export']}.onnx"
        if not path.exists():
            subprocess.run(["/usr/bin/python3", ROOT / "bench/export_models.py", EXPORTS, entry["export"]], check=True)
        return path
    return samples / entry["sample"] / "1" / "model.onnx" if "sample" in entry else pathlib.Path(entry["path"])


def runs_per_turn(worker):
    worker.run(2)
    return max(3, min(2000, round(TURN_SECONDS * 1000 / statistics.median(worker.run(3)))))


def save_inputs(entry, batch, folder, seed=1):
    """Files with the model's inputs, the same numbers for the same seed: {name: path}."""
    generator = np.random.default_rng(seed)
    inputs = {name: f"{folder}/{i}.npy" for i, name in enumerate(entry["inputs"])}
    for name, path in inputs.items():
        np.save(path, make_input(entry["inputs"][name], batch, generator))
    return inputs


def take_turns(candidates, threads, inputs, rounds):
    """Milliseconds of each (command, model file) in each round: rounds × candidates."""
    workers = []
    try:
        for command, path in candidates:
            workers.append(Worker(command, path, threads, inputs))
        turns = [(worker, runs_per_turn(worker)) for worker in workers]
        times = []
        for _ in range(rounds):
            times.append([])
            for worker, count in turns:
                time.sleep(PAUSE_SECONDS)
                times[-1].append(statistics.median(worker.run(count)))
        return times
    finally:
        for worker in workers:
            worker.close()


def measure(entry, path, threads, batch, rounds):
    with tempfile.TemporaryDirectory() as folder:
        candidates = [(COMMANDS[engine], path) for engine in ("dunlin", "ort")]
        times = take_turns(candidates, threads, save_inputs(entry, batch, folder), rounds)
    return summarise(entry["name"], threads, batch, times)


def summarise(name, threads, batch, times):
    ratios = [theirs / ours for ours, theirs in times]
    low, high = np.percentile(ratios, [10, 90])
    return {"model": name, "threads": threads, "batch": batch, "ratio": statistics.median(ratios), "p10": low, "p90": high,
            "dunlin_ms": statistics.median(ours for ours, _ in times),
            "ort_ms": statistics.median(theirs for _, theirs in times)}


def geometric_mean(values):
    return math.exp(statistics.fmean(math.log(value) for value in values))


def table(rows):
    """Markdown: one line per model, batch and thread count, one mean per batch and thread count."""
    lines = ["| model | batch | threads | Dunlin ms | ONNX Runtime ms | ratio | p10–p90 |",
             "|---|---:|---:|---:|---:|---:|---:|"]
    for row in rows:
        lines.append("| {model} | {batch} | {threads} | {dunlin_ms:.3f} | {ort_ms:.3f} | **{ratio:.2f}** | {p10:.2f}–{p90:.2f} |"
                     .format(**row))
    for batch, threads in sorted({(row["batch"], row["threads"]) for row in rows}):
        ratios = [row["ratio"] for row in rows if (row["batch"], row["threads"]) == (batch, threads)]
        lines.append(f"| geometric mean of {len(ratios)} | {batch} | {threads} | | | **{geometric_mean(ratios):.2f}** | "
                     f"{min(ratios):.2f}–{max(ratios):.2f} (all) |")
    return "\n".join(lines)


def measure_all(entries, samples, threads, batches, rounds):
    """Rows of all that could be measured, and a line for each that could not. Models whose inputs have no batch are
    measured at 1 only."""
    rows, failed = [], []
    for entry in entries:
        path = model_path(entry, samples)
        if not path.exists():
            failed.append(f"{entry['name']}: {path} is not there (dunlin models fetch --all --dir {samples})")
            continue
        for batch, count in itertools.product(batches, threads):
            if batch > 1 and not takes_batch(entry):
                continue
            try:
                rows.append(measure(entry, path, count, batch, rounds))
                print("{model}, batch {batch}, {threads} thread(s): {dunlin_ms:.3f} ms against {ort_ms:.3f} ms, ratio "
                      "{ratio:.2f} ({p10:.2f}–{p90:.2f})".format(**rows[-1]), flush=True)
            except RuntimeError as error:
                failed.append(f"{entry['name']}, batch {batch}, {count} thread(s): {error}")
    return rows, failed


def load_entries(path=ROOT / "bench/models.json"):
    """The models to choose from, by name."""
    return {entry["name"]: entry for entry in json.loads(path.read_text())}


def numbers(text):
    return [int(word) for word in text.split(",")]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*")
    parser.add_argument("--threads", type=numbers, default=[1, 2])
    parser.add_argument("--batch", type=numbers, default=[1])
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--samples", type=pathlib.Path, default=ROOT / "build/models", help="repository of sample models")
    parser.add_argument("--list", type=pathlib.Path, default=ROOT / "bench/models.json", help="the models to choose from")
    parser.add_argument("--markdown", type=pathlib.Path)
    parser.add_argument("--json", type=pathlib.Path)
    args = parser.parse_args()
    entries = load_entries(args.list)
    unknown = [name for name in args.models if name not in entries]
    if unknown:
        parser.error(f"no model {unknown[0]}: choose from {' '.join(entries)}")
    rows, failed = measure_all([entries[name] for name in args.models or entries], args.samples.resolve(), args.threads,
                               args.batch, args.rounds)
    if rows:
        print("\n" + table(rows))
        if args.markdown:
            args.markdown.write_text(table(rows) + "\n")
        if args.json:
            args.json.write_text(json.dumps(rows, indent=1) + "\n")
    print("".join(f"\nfailed: {line}" for line in failed))
    return 1 if failed or not rows else 0


if __name__ == "__main__":
    sys.exit(main())
