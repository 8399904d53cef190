#!/usr/bin/python3
"""Measures everything against ONNX Runtime and writes docs/performance.md with its picture.

    bench/report.py [--rounds 7] [--models resnet18,minilm] [--out docs]

Takes about twenty minutes with all models; the machine should have nothing else to do. How a ratio is measured stands
in bench/compare.py.
"""

import argparse
import json
import pathlib
import subprocess
import sys

import matplotlib
import numpy as np

import compare
import load
import shared_cores

matplotlib.use("svg")
matplotlib.rcParams["svg.hashsalt"] = "dunlin"  # the same data, the same file
import matplotlib.pyplot as plt  # noqa: E402: after the choice of the back end

# Okabe and Ito's blue and orange.
COLOURS = ["#0072B2", "#E69F00"]


def machine():
    """What the figures belong to: processor, usable cores, SIMD target, versions."""
    fields = dict(line.split(":", 1) for line in subprocess.run(["lscpu"], capture_output=True, text=True, check=True)
                  .stdout.splitlines() if ":" in line)
    field = lambda name: fields.get(name, "?").strip()
    version = subprocess.run([compare.ROOT / "build/release/dunlin", "--version"], capture_output=True, text=True,
                             check=True).stdout.strip()
    peer = json.loads((compare.ROOT / "build/npm/node_modules/onnxruntime-node/package.json").read_text())["version"]
    return (f"{version}; ONNX Runtime {peer} through its Node binding; {field('Model name')}, {field('CPU(s)')} CPUs, "
            f"L2 {field('L2 cache')}, L3 {field('L3 cache')}.")


def ratio_of(rows, model, batch, threads):
    return next((row for row in rows if (row["model"], row["batch"], row["threads"]) == (model, batch, threads)), None)


def picture(path, rows, threads):
    """Bars of the ratio at batch 1, the slowest model at the bottom."""
    models = sorted({row["model"] for row in rows if row["batch"] == 1},
                    key=lambda model: ratio_of(rows, model, 1, threads[0])["ratio"])
    figure, axes = plt.subplots(figsize=(8, 0.9 + 0.32 * len(models)))
    height = 0.8 / len(threads)
    for i, count in enumerate(threads):
        found = [ratio_of(rows, model, 1, count) for model in models]
        places = np.arange(len(models)) + 0.4 - height * (i + 0.5)
        axes.barh(places, [row["ratio"] - 1 for row in found], height, left=1, color=COLOURS[i % 2],
                  label=f"{count} thread{'s' if count > 1 else ''}",
                  xerr=np.abs([[row["ratio"] - row[end] for row in found] for end in ("p10", "p90")]),
                  error_kw={"ecolor": "#666666", "elinewidth": 0.8})
    axes.set_yticks(np.arange(len(models)), models)
    axes.axvline(1, color="black", linewidth=1)
    axes.set_xscale("log")
    low, high = axes.get_xlim()
    ticks = [tick for tick in (0.5, 0.7, 1, 1.5, 2, 3, 5, 10, 20) if low <= tick <= high]
    axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.minorticks_off()
    axes.set_ylim(-0.6, len(models) - 0.4)
    axes.set_xlabel("time of ONNX Runtime / time of Dunlin (bar: median; line: 10th to 90th percentile)")
    axes.legend(loc="lower right", frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)


def ratio_table(rows, batch, threads):
    heads = "".join(f" {count} thread{'s' if count > 1 else ''} | p10–p90 |" for count in threads)
    lines = [f"| model |{heads} Dunlin ms | ONNX Runtime ms |", "|---|" + "---:|---:|" * (len(threads) + 1)]
    models = list(dict.fromkeys(row["model"] for row in rows if row["batch"] == batch))
    for model in models:
        found = [ratio_of(rows, model, batch, count) for count in threads]
        cells = "".join(" **{ratio:.2f}** | {p10:.2f}–{p90:.2f} |".format(**row) if row else " – | – |" for row in found)
        first = found[0] or {"dunlin_ms": float("nan"), "ort_ms": float("nan")}
        lines.append(f"| {model} |{cells} {first['dunlin_ms']:.3f} | {first['ort_ms']:.3f} |")
    means = ""
    for count in threads:
        ratios = [row["ratio"] for row in rows if (row["batch"], row["threads"]) == (batch, count)]
        means += f" **{compare.geometric_mean(ratios):.2f}** | {min(ratios):.2f}–{max(ratios):.2f} (all) |"
    return "\n".join([*lines, f"| geometric mean of {len(models)} |{means} | |"])


def page(rows, failed, threads, batches, loads, shared):
    text = f"""# Performance

Written by `make report`: time of ONNX Runtime over time of Dunlin, in fp32, at the same number of threads. Above 1, Dunlin is faster.
Both engines stay loaded and take turns of {compare.TURN_SECONDS} s; each turn gives a median, each pair of turns a ratio; the tables
give the median of the ratios with the 10th and 90th percentile, and the times at {threads[0]} thread. Models without a package are
exported with random weights by `bench/export_models.py`; the others are the sample models that `dunlin models fetch --all` gets. The
inputs stand in `bench/models.json`.

{machine()}

![ratios at batch 1](performance.svg)
"""
    for batch in batches:
        text += f"\n## Batch {batch}\n\n{ratio_table(rows, batch, threads)}\n"
    text += f"""
## Loading

As `bench/load.py` measures it: median of several processes each. Memory is MiB; resident memory includes pages of the model's file that the
kernel keeps in its cache, anonymous memory does not. ONNX Runtime's process holds Node too, which the smallest model shows.

{load.table(loads)}

## Two processes on the same cores

As `bench/shared_cores.py` measures it: perfect sharing is two processes of one thread each.

{shared}
"""
    if failed:
        text += "\nNot measured:\n\n" + "".join(f"- {line}\n" for line in failed)
    return text


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", help="names, with commas (default: all of bench/models.json)")
    parser.add_argument("--threads", type=compare.numbers, default=[1, 2])
    parser.add_argument("--batch", type=compare.numbers, default=[1, 8])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--samples", type=pathlib.Path, default=compare.ROOT / "build/models")
    parser.add_argument("--out", type=pathlib.Path, default=compare.ROOT / "docs")
    args = parser.parse_args()
    entries = json.loads((compare.ROOT / "bench/models.json").read_text())
    if args.models:
        entries = [entry for entry in entries if entry["name"] in args.models.split(",")]
    rows, failed = compare.measure_all(entries, args.samples.resolve(), args.threads, args.batch, args.rounds)
    if not rows:
        parser.error("nothing was measured: " + "; ".join(failed or ["no such model"]))
    chosen = {entry["name"]: entry for entry in entries}
    loads = load.measure_all([chosen[name] for name in load.MODELS if name in chosen], args.samples.resolve(), args.rounds)
    entry = chosen.get("mobilenet_v2", entries[0])
    shared = shared_cores.table(entry["name"], shared_cores.measure(
        entry, compare.model_path(entry, args.samples.resolve()), seconds=3, rounds=3))
    batches = [batch for batch in args.batch if any(row["batch"] == batch for row in rows)]
    picture(args.out / "performance.svg", rows, args.threads)
    (args.out / "performance.md").write_text(page(rows, failed, args.threads, batches, loads, shared))
    print(f"wrote {args.out / 'performance.md'} and performance.svg; {len(failed)} not measured")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
