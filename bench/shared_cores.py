#!/usr/bin/python3
"""Two processes on the same two cores: what sharing costs, Dunlin and ONNX Runtime.

    bench/shared_cores.py [model] [--seconds 5] [--rounds 3]

Perfect sharing is two processes of one thread each. Against it stand two processes of two threads each, which ask for
four threads of two cores. The table gives throughput of both processes together, and median and 99th percentile of
their latencies; medians over the rounds.
"""

import argparse
import pathlib
import statistics
import sys
import tempfile
import threading
import time

import numpy as np

import compare


def run_for(worker, seconds, times):
    """Milliseconds of every run until the time is over, asked for in batches of about a quarter of a second."""
    batch = compare.runs_per_turn(worker)
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        times += worker.run(batch)


def share(engine, path, inputs, threads, seconds):
    """Two processes at once: inferences per second of both, median and 99th percentile in milliseconds."""
    workers = [compare.Worker(compare.COMMANDS[engine], path, threads, inputs) for _ in range(2)]
    times = [[], []]
    clients = [threading.Thread(target=run_for, args=(worker, seconds, found)) for worker, found in zip(workers, times)]
    for client in clients:
        client.start()
    for client in clients:
        client.join()
    for worker in workers:
        worker.close()
    together = times[0] + times[1]
    # Each process's rate is that of its own runs: it ends its last batch alone.
    rate = sum(1000 / statistics.fmean(found) for found in times)
    return rate, statistics.median(together), float(np.percentile(together, 99))


def measure(entry, path, seconds, rounds):
    with tempfile.TemporaryDirectory() as folder:
        inputs = compare.save_inputs(entry, 1, folder)
        rows = {}
        for _ in range(rounds):
            for engine in compare.COMMANDS:
                for threads in (1, 2):
                    rows.setdefault((engine, threads), []).append(share(engine, path, inputs, threads, seconds))
    return {key: tuple(map(statistics.median, zip(*found))) for key, found in rows.items()}


def table(name, rows):
    lines = [f"| {name} | inferences/s | of perfect sharing | median ms | 99 % ms | 99 % / median |", "|---|" + "---:|" * 5]
    names = {"dunlin": "Dunlin", "ort": "ONNX Runtime"}
    for (engine, threads), (rate, median, tail) in rows.items():
        lines.append(f"| {names[engine]}, 2 x {threads} threads | {rate:.1f} | {rate / rows[engine, 1][0]:.2f} | {median:.2f} | "
                     f"{tail:.2f} | {tail / median:.2f} |")
    return "\n".join(lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="?", default="mobilenet_v2")
    parser.add_argument("--seconds", type=float, default=5)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--samples", type=pathlib.Path, default=compare.ROOT / "build/models")
    args = parser.parse_args()
    entries = compare.load_entries()
    if args.model not in entries:
        parser.error(f"no model {args.model}: choose from {' '.join(entries)}")
    entry = entries[args.model]
    print(table(args.model, measure(entry, compare.model_path(entry, args.samples.resolve()), args.seconds, args.rounds)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
