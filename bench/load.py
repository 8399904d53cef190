#!/usr/bin/python3
"""Loading: time until a model is ready, and memory, Dunlin against ONNX Runtime.

    bench/load.py [model…] [--rounds 7]

Each round starts both engines anew, in turns, at one thread. Each process times its own load; its memory is read after
the load and again after three runs: resident (VmRSS) and the part of it that no file backs (RssAnon), from
/proc/PID/status. Loading ends when weights are packed: Dunlin does that for the first
inputs, together with a first run, whose time is taken off again. ONNX Runtime's process holds Node too; the smallest model shows how much that is.
"""

import argparse
import pathlib
import statistics
import sys
import tempfile

import compare

MODELS = ["oww_alexa", "mobilenet_v2", "resnet50", "bert_base"]


def memory(pid):
    """MiB: (resident, of it anonymous)."""
    fields = dict(line.split(":", 1) for line in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines())
    return tuple(int(fields[name].split()[0]) / 1024 for name in ("VmRSS", "RssAnon"))


def start(engine, path, inputs):
    """One life of a worker: milliseconds of loading, memory when loaded, memory after runs."""
    worker = compare.Worker(compare.COMMANDS[engine], path, 1, inputs)
    try:
        loaded = memory(worker.process.pid)
        run_ms = statistics.median(worker.run(3))
        load_ms = worker.load_ms - (run_ms if engine == "dunlin" else 0)
        return load_ms, loaded, memory(worker.process.pid)
    finally:
        worker.close()


def measure(entry, path, rounds):
    """Medians for both engines: {engine: {"load_ms", "loaded", "ran", "anonymous"}}, memory in MiB."""
    with tempfile.TemporaryDirectory() as folder:
        inputs = compare.save_inputs(entry, 1, folder)
        lives = {engine: [] for engine in compare.COMMANDS}
        for _ in range(rounds):
            for engine in compare.COMMANDS:
                lives[engine].append(start(engine, path, inputs))
    median = lambda values: statistics.median(values)
    return {engine: {"load_ms": median(life[0] for life in found), "loaded": median(life[1][0] for life in found),
                     "ran": median(life[2][0] for life in found), "anonymous": median(life[2][1] for life in found)}
            for engine, found in lives.items()}


def table(rows):
    lines = ["| model | load ms | ONNX Runtime | ratio | resident MiB after load | ONNX Runtime | ratio | after runs | "
             "ONNX Runtime | ratio | of it anonymous | ONNX Runtime |", "|---|" + "---:|" * 11]
    for name, row in rows.items():
        ours, theirs = row["dunlin"], row["ort"]
        cells = [f"{ours['load_ms']:.1f} | {theirs['load_ms']:.1f} | **{theirs['load_ms'] / ours['load_ms']:.1f}**"]
        for key in ("loaded", "ran"):
            cells.append(f"{ours[key]:.0f} | {theirs[key]:.0f} | **{ours[key] / theirs[key]:.2f}**")
        lines.append(f"| {name} | {' | '.join(cells)} | {ours['anonymous']:.0f} | {theirs['anonymous']:.0f} |")
    return "\n".join(lines)


def measure_all(entries, samples, rounds):
    return {entry["name"]: measure(entry, compare.model_path(entry, samples), rounds) for entry in entries}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", default=MODELS)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--samples", type=pathlib.Path, default=compare.ROOT / "build/models")
    args = parser.parse_args()
    entries = compare.load_entries()
    unknown = [name for name in args.models if name not in entries]
    if unknown:
        parser.error(f"no model {unknown[0]}: choose from {' '.join(entries)}")
    print(table(measure_all([entries[name] for name in args.models], args.samples.resolve(), args.rounds)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
