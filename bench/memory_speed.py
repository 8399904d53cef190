#!/usr/bin/python3
"""Operators that only move or map elements, against the speed of memory and against ONNX Runtime.

    bench/memory_speed.py [name…] [--threads 1] [--seconds 0.3] [--small MIB] [--large MIB]

Each operator is a model of one node. GB/s counts what it must read and write once; the share is of a plain copy of as
many bytes, by one thread, in the same run: first where they stay in a second-level cache, then where they do not.
"""

import argparse
import pathlib
import statistics
import struct
import sys
import tempfile
import time

import numpy as np

import compare

sys.path.insert(0, str(compare.ROOT / "tests/cli"))
import onnx_bytes as onnx  # noqa: E402


def attribute(name, value):
    if isinstance(value, (list, tuple)):
        body, kind = b"".join(onnx.number(8, v) for v in value), 7
    elif isinstance(value, str):
        body, kind = onnx.block(4, value), 3
    elif isinstance(value, float):
        body, kind = onnx.varint(2 << 3 | 5) + struct.pack("<f", value), 1
    else:
        body, kind = onnx.number(3, value & (1 << 64) - 1), 2
    return onnx.block(5, onnx.block(1, name) + body + onnx.number(20, kind))


def initialiser(name, array):
    kind = onnx.FLOAT if array.dtype == np.float32 else onnx.INT64
    return onnx.block(5, b"".join(onnx.number(1, d) for d in array.shape) + onnx.number(2, kind) + onnx.block(8, name) +
                      onnx.block(9, array.tobytes()))


def model(op, shapes, constants, attributes):
    """One node: inputs x0…, then constants in the order of the node's inputs; '' is an input that is left out."""
    names = [f"x{i}" for i in range(len(shapes))] + [n if isinstance(c, np.ndarray) else "" for n, c in constants.items()]
    node = onnx.node(op, names, ["y"]) + b"".join(attribute(n, v) for n, v in attributes.items())
    graph = onnx.block(1, node) + onnx.block(2, "graph")
    graph += b"".join(initialiser(n, c) for n, c in constants.items() if isinstance(c, np.ndarray))
    graph += b"".join(onnx.block(11, onnx.value(f"x{i}", onnx.tensor_type(onnx.FLOAT, s))) for i, s in enumerate(shapes))
    graph += onnx.block(12, onnx.value("y", onnx.block(1, onnx.number(1, onnx.FLOAT))))
    return onnx.number(1, 8) + onnx.block(7, graph) + onnx.block(8, onnx.block(1, "") + onnx.number(2, 17))


def ints(*values):
    return np.array(values, np.int64)


def floats(*shape):
    return np.ones(shape, np.float32)


def cases(n):
    """name: (operator, input extents, constants, attributes, output elements); about `n` floats in and out together."""
    half = n // 2
    rows, side = half // 768, int((half / 64) ** 0.5) // 2 * 2
    image = [1, 64, side, side]
    pixels = 64 * side * side
    small = int((n / 5 / 64) ** 0.5)  # an image that is made twice as wide and high
    up = {"roi": None, "scales": np.array([1, 1, 2, 2], np.float32)}
    out = {}
    for op in ("Exp", "Erf", "Tanh", "Sigmoid"):
        out[op.lower()] = (op, [[half]], {}, {}, half)
    out["softmax"] = ("Softmax", [[rows, 768]], {}, {"axis": -1}, rows * 768)
    out["layernorm"] = ("LayerNormalization", [[rows, 768]], {"w": floats(768), "b": floats(768)}, {"axis": -1}, rows * 768)
    out["resize nearest"] = ("Resize", [[1, 64, small, small]], up, {"mode": "nearest", "nearest_mode": "floor",
                             "coordinate_transformation_mode": "asymmetric"}, 256 * small * small)
    out["resize linear"] = ("Resize", [[1, 64, small, small]], up, {"mode": "linear"}, 256 * small * small)
    for kind in ("Max", "Average"):
        out[f"{kind.lower()}pool 2x2"] = (f"{kind}Pool", [image], {}, {"kernel_shape": [2, 2], "strides": [2, 2]}, pixels // 4)
        out[f"{kind.lower()}pool 3x3/1"] = (f"{kind}Pool", [image], {}, {"kernel_shape": [3, 3], "pads": [1] * 4}, pixels)
    out["maxpool 3x3/2"] = ("MaxPool", [image], {}, {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1] * 4}, pixels // 4)
    m = half // 4096
    out["transpose ba"] = ("Transpose", [[64 * m, 64]], {}, {"perm": [1, 0]}, 4096 * m)
    out["transpose acb"] = ("Transpose", [[m, 64, 64]], {}, {"perm": [0, 2, 1]}, 4096 * m)
    out["transpose bac"] = ("Transpose", [[m, 64, 64]], {}, {"perm": [1, 0, 2]}, 4096 * m)
    out["transpose cba"] = ("Transpose", [[64, m, 64]], {}, {"perm": [2, 1, 0]}, 4096 * m)
    out["transpose acdb"] = ("Transpose", [image], {}, {"perm": [0, 2, 3, 1]}, pixels)
    out["transpose acbd"] = ("Transpose", [[1, 16 * m, 8, 32]], {}, {"perm": [0, 2, 1, 3]}, 4096 * m)
    r = int((n / 64) ** 0.5)
    for axis in range(3):
        out[f"mean axis {axis} of 3"] = ("ReduceMean", [[64, r, r]], {}, {"axes": [axis], "keepdims": 0}, r * max(64, r))
    out["max axis 1 of 3"] = ("ReduceMax", [[64, r, r]], {}, {"axes": [1], "keepdims": 0}, r * 64)
    pick = np.random.default_rng(1).permutation
    out["gather rows"] = ("Gather", [[rows, 768]], {"i": pick(rows).astype(np.int64)}, {"axis": 0}, rows * 768)
    out["gather columns"] = ("Gather", [[rows, 768]], {"i": pick(768).astype(np.int64)}, {"axis": 1}, rows * 768)
    out["concat axis 1"] = ("Concat", [[1, 32, side, side]] * 2, {}, {"axis": 1}, pixels)
    out["concat last"] = ("Concat", [[half // 64, 32]] * 2, {}, {"axis": 1}, half)
    out["pad"] = ("Pad", [image], {"pads": ints(0, 0, 1, 1, 0, 0, 1, 1)}, {}, 64 * (side + 2) ** 2)
    out["slice last"] = ("Slice", [[rows, 768]], {"s": ints(0), "e": ints(384), "a": ints(1)}, {}, rows * 384)
    out["slice step 2"] = ("Slice", [[rows, 768]], {"s": ints(0), "e": ints(768), "a": ints(1), "t": ints(2)}, {}, rows * 384)
    out["add channel"] = ("Add", [image], {"c": floats(64, 1, 1)}, {}, pixels)
    out["add row"] = ("Add", [[rows, 768]], {"c": floats(768)}, {}, rows * 768)
    out["add column"] = ("Add", [[rows, 768]], {"c": floats(rows, 1)}, {}, rows * 768)
    out["add"] = ("Add", [[n // 3]] * 2, {}, {}, n // 3)
    return out


def copy_rate(total_bytes, seconds):
    """GB/s of a copy that reads and writes so many bytes together."""
    x = np.ones(max(1, total_bytes // 8), np.float32)
    y = np.empty_like(x)
    best, end = float("inf"), time.perf_counter() + seconds
    while time.perf_counter() < end:
        start = time.perf_counter()
        np.copyto(y, x)
        best = min(best, time.perf_counter() - start)
    return 2 * x.nbytes / best / 1e9


def millis(engine, path, threads, inputs, seconds):
    worker = compare.Worker(compare.COMMANDS[engine], path, threads, inputs)
    try:
        once = max(statistics.median(worker.run(3)), 1e-3)
        return statistics.median(worker.run(max(3, min(5000, round(seconds * 1000 / once)))))
    finally:
        worker.close()


def measure(case, threads, seconds, folder):
    """(GB/s of Dunlin, share of the copy, time of ONNX Runtime over Dunlin's)."""
    op, shapes, constants, attributes, outputs = case
    folder = pathlib.Path(folder)
    (folder / "m.onnx").write_bytes(model(op, shapes, constants, attributes))
    inputs, total = {}, outputs * 4
    for i, shape in enumerate(shapes):
        array = np.random.default_rng(i).uniform(-1, 1, shape).astype(np.float32)
        np.save(folder / f"x{i}.npy", array)
        inputs[f"x{i}"] = folder / f"x{i}.npy"
        # What is cut away need not be read.
        total += array.nbytes if op != "Slice" else outputs * 4
    ours, theirs = (millis(engine, folder / "m.onnx", threads, inputs, seconds) for engine in ("dunlin", "ort"))
    rate = total / ours / 1e6
    return rate, rate / copy_rate(total, seconds), theirs / ours


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help="only operators whose name begins so")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=0.3)
    parser.add_argument("--small", type=float, default=1, help="MiB read and written, in the cache")
    parser.add_argument("--large", type=float, default=64, help="the same, in memory")
    args = parser.parse_args()
    sizes = [int(mib * 2**18) for mib in (args.small, args.large)]
    print(f"| operator | {args.small:g} MiB: GB/s | of a copy | against ONNX Runtime | {args.large:g} MiB: GB/s | of a copy | "
          "against ONNX Runtime |\n|---|" + "---:|" * 6)
    for name in cases(sizes[0]):
        if args.names and not any(name.startswith(prefix) for prefix in args.names):
            continue
        cells = []
        for n in sizes:
            with tempfile.TemporaryDirectory() as folder:
                rate, share, ratio = measure(cases(n)[name], args.threads, args.seconds, folder)
            cells.append(f"{rate:.1f} | {share:.0%} | {ratio:.2f}")
        print(f"| {name} | {' | '.join(cells)} |", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
