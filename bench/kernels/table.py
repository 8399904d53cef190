#!/usr/bin/python3
"""Share of the processor's peak that kernels reach, shape by shape, on one core, with oneDNN's beside it.

    bench/kernels/table.py [part of a shape's name…] [--types f32,int8] [--rounds 5] [--markdown FILE] [--json FILE]

Dunlin runs a model of one operator, warm: Conv with bias and Relu, MatMul, QLinearConv and QLinearMatMul (u8 times s8, a
scale per output channel, rounded to u8); the time is that of the operator's step, as the profile has it. oneDNN runs
the same product with operands in its own layout, where libdnnl-dev 2 was there when bench/ was built. A loop of nothing but
multiply-adds takes its turn with both, so all three meet the same clock: a share is the kernel's rate over that loop's.
Products with zeros of the padding count; Winograd's method can go past 100 %. The medians of ratios per round are shown.
"""

import argparse
import json
import os
import pathlib
import statistics
import sys
import tempfile

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
import compare  # noqa: E402

BUILT = compare.ROOT / "build/release"
ONEDNN = BUILT / "onednn_worker"

# channels, extent, filters, kernel, stride, groups
CONVS = [(64, 56, 64, 3, 1, 1), (128, 28, 128, 3, 1, 1), (256, 14, 256, 3, 1, 1), (512, 7, 512, 3, 1, 1),
         (128, 56, 128, 3, 2, 1), (16, 256, 16, 3, 1, 1), (256, 56, 64, 1, 1, 1), (64, 56, 256, 1, 1, 1),
         (512, 28, 128, 1, 1, 1), (1024, 14, 256, 1, 1, 1), (512, 7, 2048, 1, 1, 1), (2048, 7, 512, 1, 1, 1),
         (24, 56, 144, 1, 1, 1), (144, 56, 24, 1, 1, 1), (96, 14, 576, 1, 1, 1), (144, 56, 144, 3, 1, 144),
         (144, 56, 144, 3, 2, 144), (576, 14, 576, 3, 1, 576), (672, 14, 672, 5, 1, 672), (160, 14, 160, 3, 1, 10),
         (3, 224, 64, 7, 2, 1), (3, 224, 32, 3, 2, 1)]
# M, K, N
MATMULS = [(128, 768, 768), (128, 768, 3072), (128, 3072, 768), (128, 384, 1536), (512, 1024, 1024), (8, 768, 3072),
           (1, 768, 3072)]


def shapes():
    """(name, kind, numbers, operations) of all."""
    for c, e, m, k, s, g in CONVS:
        kind = "depthwise" if g == c else "grouped" if g > 1 else "conv"
        result = (e + 2 * (k // 2) - k) // s + 1
        yield (f"{kind} {k}x{k}{f'/{s}' if s > 1 else ''} {c}->{m} {e}x{e}", "conv", (c, e, m, k, s, g),
               2 * result * result * m * k * k * c // g)
    for m, k, n in MATMULS:
        yield f"matmul {m}x{k}x{n}", "matmul", (m, k, n), 2 * m * k * n


def constants(arrays):
    return [numpy_helper.from_array(np.asarray(array), name) for name, array in arrays.items()]


def scales(channels):
    """Of the data (x), the weights (w) and the result (y), so that results use the range of their codes."""
    return {"x_scale": np.float32(1 / 64), "x_zero": np.uint8(0), "w_scale": np.full(channels, 1 / 256, np.float32),
            "w_zero": np.zeros(channels, np.int8), "y_scale": np.float32(1 / 16), "y_zero": np.uint8(0)}


def save_model(kind, numbers, type_, path):
    """A model of one operator, whose image lies channels last, as inside a network. Returns its input."""
    generator, bytes_ = np.random.default_rng(1), type_ == "int8"
    draw = lambda *shape: (generator.integers(-100, 100, shape).astype(np.int8) if bytes_
                           else generator.uniform(-0.2, 0.2, shape).astype(np.float32))
    operands = ["x_scale", "x_zero", "w", "w_scale", "w_zero", "y_scale", "y_zero"]
    if kind == "conv":
        c, e, m, k, s, g = numbers
        attributes = {"kernel_shape": [k, k], "pads": [k // 2] * 4, "strides": [s, s], "group": g}
        data = {"w": draw(m, c // g, k, k), "bias": np.zeros(m, np.int32 if bytes_ else np.float32)}
        product = ([helper.make_node("QLinearConv", ["image", *operands, "bias"], ["result"], **attributes)] if bytes_ else
                   [helper.make_node("Conv", ["image", "w", "bias"], ["sums"], **attributes),
                    helper.make_node("Relu", ["sums"], ["result"])])
        nodes = [helper.make_node("Transpose", ["x"], ["image"], perm=[0, 3, 1, 2]), *product,
                 helper.make_node("Transpose", ["result"], ["y"], perm=[0, 2, 3, 1])]
        shape, channels = (1, e, e, c), m
    else:
        m, k, channels = numbers
        data, shape = {"w": draw(k, channels)}, (m, k)
        nodes = [helper.make_node("QLinearMatMul", ["x", *operands], ["y"]) if bytes_ else
                 helper.make_node("MatMul", ["x", "w"], ["y"])]
    if bytes_:
        data.update(scales(channels))
    code = TensorProto.UINT8 if bytes_ else TensorProto.FLOAT
    graph = helper.make_graph(nodes, "one", [helper.make_tensor_value_info("x", code, shape)],
                              [helper.make_tensor_value_info("y", code, None)], constants(data))
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), str(path))
    return generator.integers(0, 256, shape).astype(np.uint8) if bytes_ else generator.uniform(-1, 1, shape).astype(np.float32)


def about(command, model, inputs):
    worker = compare.Worker(command, model, 1, inputs)
    worker.close()
    return worker.about


def measure(shape, type_, rounds):
    """A row of the table; all ratios are (median, 10th percentile, 90th percentile)."""
    name, kind, numbers, operations = shape
    with tempfile.TemporaryDirectory() as folder:
        path, inputs = pathlib.Path(folder, "model.onnx"), {"x": f"{folder}/x.npy"}
        np.save(inputs["x"], save_model(kind, numbers, type_, path))
        ours = ([*compare.COMMANDS["dunlin"], "--kernels"], path)
        peak = ([BUILT / "peak_worker"], type_)
        peer = ([ONEDNN], ",".join(map(str, [kind, type_, *numbers])))
        candidates = [ours, peak] + ([peer] if ONEDNN.exists() else [])
        peak_operations, _, instructions = about(*peak, {}).partition(" ")
        times = compare.take_turns(candidates, 1, inputs, rounds)
        per_peak = operations / float(peak_operations)
        spread = lambda values: (statistics.median(values), *map(float, np.percentile(values, [10, 90])))
        row = {"name": name, "type": type_, "kernel": about(*ours, inputs), "instructions": instructions,
               "us": 1000 * statistics.median(turn[0] for turn in times),
               "peak": statistics.median(float(peak_operations) / turn[1] / 1e6 for turn in times),
               "share": spread([per_peak * turn[1] / turn[0] for turn in times])}
        if ONEDNN.exists():
            row.update(peer=about(*peer, {}), peer_share=spread([per_peak * turn[1] / turn[2] for turn in times]),
                       ratio=spread([turn[2] / turn[0] for turn in times]))
        return row


def table(rows):
    """Markdown: a table per type."""
    lines = []
    for type_ in dict.fromkeys(row["type"] for row in rows):
        found = [row for row in rows if row["type"] == type_]
        peak = statistics.median(row["peak"] for row in found)
        lines += [f"{type_}: the peak is {peak:.0f} G operations a second of one core ({found[0]['instructions']}).", "",
                  "| shape | kernel | µs | % of peak | oneDNN's | % of peak | ratio | p10–p90 |", "|---|---|---:|---:|---|---:|---:|---:|"]
        for row in found:
            line = f"| {row['name']} | {row['kernel']} | {row['us']:.0f} | {row['share'][0]:.0%} |"
            if "ratio" in row:
                line += f" {row['peer']} | {row['peer_share'][0]:.0%} | **{row['ratio'][0]:.2f}** | " \
                        f"{row['ratio'][1]:.2f}–{row['ratio'][2]:.2f} |"
            lines.append(line + (" – | – | – | – |" if "ratio" not in row else ""))
        ratios = [row["ratio"][0] for row in found if "ratio" in row]
        if ratios:
            lines += ["", f"At least as fast as oneDNN on {sum(r >= 1 for r in ratios)} of {len(ratios)} shapes; geometric mean of the "
                      f"ratios {compare.geometric_mean(ratios):.2f}.", ""]
    return "\n".join(lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help="only shapes whose name holds one of these")
    parser.add_argument("--types", type=lambda text: text.split(","), default=["f32", "int8"])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--markdown", type=pathlib.Path)
    parser.add_argument("--json", type=pathlib.Path)
    args = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"  # of oneDNN
    chosen = [shape for shape in shapes() if not args.names or any(part in shape[0] for part in args.names)]
    if not chosen:
        parser.error("no shape has such a name: " + "; ".join(shape[0] for shape in shapes()))
    rows = []
    for type_ in args.types:
        for shape in chosen:
            rows.append(measure(shape, type_, args.rounds))
            print("{type} {name}: {share[0]:.0%} of the peak".format(**rows[-1]) +
                  (", oneDNN {peer_share[0]:.0%}".format(**rows[-1]) if "ratio" in rows[-1] else ""), flush=True)
    print("\n" + table(rows))
    if args.markdown:
        args.markdown.write_text(table(rows) + "\n")
    if args.json:
        args.json.write_text(json.dumps(rows, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
