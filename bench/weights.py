#!/usr/bin/python3
"""Products with weights of a few bits (MatMulNBits) against the speed of memory and against ONNX Runtime.

    bench/weights.py [--threads 1,2] [--rounds 7] [--rows 1,4,128] [--bits 4] [--block 32] [--level 0,4]

The model is a chain of 24 matrices, 768 x 3072 and 3072 x 768 in turns: more weights than caches hold. GB/s counts codes
and scales once, `of memory` is its share of what as many threads (1, 2, 4 …) read at best, in the same run.
"""

import argparse
import json
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

import numpy as np

import compare
import memory_speed

sys.path.insert(0, str(compare.ROOT / "tests/cli"))
import onnx_bytes as onnx  # noqa: E402

MATRICES, NARROW, WIDE = 24, 768, 3072
UINT8 = 2


def initialiser(name, array):
    kind = UINT8 if array.dtype == np.uint8 else onnx.FLOAT
    return onnx.block(5, b"".join(onnx.number(1, d) for d in array.shape) + onnx.number(2, kind) + onnx.block(8, name) +
                      onnx.block(9, array.tobytes()))


def chain(rows, bits, block, level):
    """(model, bytes of codes and scales)"""
    generator = np.random.default_rng(1)
    body, weights = b"", 0
    for i in range(MATRICES):
        k, n = (NARROW, WIDE) if i % 2 == 0 else (WIDE, NARROW)
        codes = generator.integers(0, 256, (n, k // block, block * bits // 8), np.uint8)
        scales = generator.uniform(0.5, 1.5, n * k // block).astype(np.float32) * np.float32((12 / k) ** 0.5 / (1 << bits))
        attributes = {"K": k, "N": n, "bits": bits, "block_size": block, "accuracy_level": level}
        node = onnx.node("MatMulNBits", [f"x{i}", f"b{i}", f"s{i}"], [f"x{i + 1}"], f"product{i}", "com.microsoft")
        node += b"".join(memory_speed.attribute(key, v) for key, v in attributes.items())
        body += onnx.block(1, node) + initialiser(f"b{i}", codes) + initialiser(f"s{i}", scales)
        weights += codes.nbytes + scales.nbytes
    body += onnx.block(2, "graph")
    for field, name in ((11, "x0"), (12, f"x{MATRICES}")):
        body += onnx.block(field, onnx.value(name, onnx.tensor_type(onnx.FLOAT, [rows, NARROW])))
    opsets = [onnx.block(8, onnx.block(1, domain) + onnx.number(2, version)) for domain, version in (("", 17), ("com.microsoft", 1))]
    return onnx.number(1, 8) + onnx.block(7, body) + b"".join(opsets), weights


def read_rate(threads):
    """GB/s that so many threads read from memory, best of a few rounds."""
    command = [compare.ROOT / "build/release/src/kernels/kernels_bench", f"--benchmark_filter=^Read/.*threads:{threads}$",
               "--benchmark_format=json", "--benchmark_min_time=0.1", "--benchmark_repetitions=3"]
    out = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return max(run["GB/s"] for run in json.loads(out)["benchmarks"] if run["run_type"] == "iteration")


def measure(rows, threads, bits, block, level, rounds, folder):
    model, weights = chain(rows, bits, block, level)
    path = pathlib.Path(folder) / "chain.onnx"
    path.write_bytes(model)
    np.save(f"{folder}/x.npy", np.random.default_rng(2).uniform(-1, 1, (rows, NARROW)).astype(np.float32))
    workers = [compare.Worker(compare.COMMANDS[engine], path, threads, {"x0": f"{folder}/x.npy"})
               for engine in ("dunlin", "ort")]
    try:
        counts = [compare.runs_per_turn(worker) for worker in workers]
        times, reads = [], []
        for _ in range(rounds):
            reads.append(read_rate(threads))
            times.append([])
            for worker, count in zip(workers, counts):
                time.sleep(compare.PAUSE_SECONDS)
                times[-1].append(statistics.median(worker.run(count)))
    finally:
        for worker in workers:
            worker.close()
    ours, theirs = (statistics.median(column) for column in zip(*times))
    rate, macs = weights / ours / 1e6, rows * MATRICES * NARROW * WIDE
    return [f"{ours:.2f}", f"{theirs:.2f}", f"{statistics.median(t / o for o, t in times):.2f}", f"{rate:.1f}",
            f"{rate / max(reads):.0%}", f"{macs / ours / 1e6:.0f}"]


def numbers(text):
    return [int(word) for word in text.split(",")]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("threads", "1,2"), ("rows", "1,4,128"), ("bits", "4"), ("block", "32"), ("level", "0,4")):
        parser.add_argument(f"--{name}", type=numbers, default=numbers(default))
    parser.add_argument("--rounds", type=int, default=7)
    args = parser.parse_args()
    print("| bits | block | level | rows | threads | Dunlin ms | ONNX Runtime ms | ratio | GB/s | of memory | GMAC/s |\n|" +
          "---:|" * 11)
    for case in [(b, s, a, r, t) for b in args.bits for s in args.block for a in args.level for r in args.rows
                 for t in args.threads]:
        bits, block, level, rows, threads = case
        with tempfile.TemporaryDirectory() as folder:
            cells = measure(rows, threads, bits, block, level, args.rounds, folder)
        print(f"| {' | '.join([*map(str, case), *cells])} |", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
