#!/usr/bin/python3
"""Times quantised models: Dunlin against ONNX Runtime on the same file, and against Dunlin on the float model.

    bench/quantised.py [model…] [--dialects u8,s8] [--threads 1,2] [--rounds 7] [--markdown FILE] [--json FILE]
    bench/quantised.py --file q.onnx --float f.onnx [--file … --float …] [--shape x=1,3,640,640]

A model is a name of bench/models.json; its files are those that bench/quantise_models.py writes, and are written when
there are none. With --file, any file, beside the float model it was made from. The three take turns of equal length, as
in bench/compare.py; each ratio is the median over the rounds with the 10th and 90th percentile: above 1, Dunlin with
the quantised file is faster. The last column says how alike the first outputs are: cosine with the float model (Dunlin,
ONNX Runtime), and between the two either the largest difference in codes, where the model ends in DequantizeLinear,
or the share of rows with the same largest element.
"""

import argparse
import itertools
import json
import pathlib
import statistics
import sys
import tempfile

import numpy as np
import onnx
from onnx import mapping, numpy_helper

import compare
import quantise_models


def inputs_of(path, shapes):
    """The inputs of a model file in the form of bench/models.json; open extents are 1 unless `shapes` has them."""
    graph = onnx.load(str(path), load_external_data=False).graph
    constants = {t.name for t in graph.initializer}
    specs = {}
    for value in graph.input:
        if value.name not in constants:
            tensor = value.type.tensor_type
            extents = [max(1, dim.dim_value) for dim in tensor.shape.dim]
            specs[value.name] = {"shape": shapes.get(value.name, extents),
                                 "type": mapping.TENSOR_TYPE_TO_NP_TYPE[tensor.elem_type].name}
    return specs


def last_scale(path):
    """The scale of the first output's codes, None where it does not come out of a DequantizeLinear."""
    graph = onnx.load(str(path), load_external_data=False).graph
    constants = {t.name: t for t in graph.initializer}
    for node in graph.node:
        if graph.output[0].name in node.output and node.op_type == "DequantizeLinear" and node.input[1] in constants:
            return float(numpy_helper.to_array(constants[node.input[1]]).ravel()[0])
    return None


def agreement(path, reference, inputs):
    """How alike answers are, as text; `reference`: the float model's."""
    ours, (theirs,) = quantise_models.first_output(path, inputs), quantise_models.run_peer([(path, inputs)])
    cosine = quantise_models.cosine
    if isinstance(theirs, str):
        return f"{cosine(ours, reference):.4f}, – ({theirs})"
    theirs, scale = theirs[0], last_scale(path)
    text = f"{cosine(ours, reference):.4f}, {cosine(theirs, reference):.4f}; "
    if scale is not None:
        return text + f"{round(np.abs(ours - theirs).max() / scale)} codes"
    same = ours.reshape(-1, ours.shape[-1]).argmax(1) == theirs.reshape(-1, ours.shape[-1]).argmax(1)
    return text + f"arg max {same.mean():.1%}"


def ratios(times, k):
    """Of the k-th candidate's time to the first's: median, 10th and 90th percentile."""
    found = [row[k] / row[0] for row in times]
    return [statistics.median(found), *map(float, np.percentile(found, [10, 90]))]


def measure(case, threads, rounds):
    """A row of the table; `case`: {"name", "dialect", "path", "float", "entry"}."""
    ours, theirs = compare.COMMANDS["dunlin"], compare.COMMANDS["ort"]
    with tempfile.TemporaryDirectory() as folder:
        inputs = compare.save_inputs(case["entry"], 1, folder)
        candidates = [(ours, case["path"]), (theirs, case["path"]), (ours, case["float"])]
        times = compare.take_turns(candidates, threads, inputs, rounds)
    return {"name": case["name"], "dialect": case["dialect"], "threads": threads, "peer": ratios(times, 1),
            "float": ratios(times, 2), "dunlin_ms": statistics.median(row[0] for row in times)}


def cell(values):
    return "**{:.2f}** | {:.2f}–{:.2f}".format(*values)


def table(rows):
    """Markdown: a line per file and thread count, then geometric means per dialect and thread count."""
    lines = ["| model | dialect | threads | Dunlin ms | against ONNX Runtime | p10–p90 | against float | p10–p90 | answers |",
             "|---|---|---:|---:|---:|---:|---:|---:|---|"]
    for row in rows:
        lines.append(f"| {row['name']} | {row['dialect']} | {row['threads']} | {row['dunlin_ms']:.2f} | {cell(row['peer'])} | "
                     f"{cell(row['float'])} | {row['answers']} |")
    lines += ["", "| geometric mean | files | threads | against ONNX Runtime | lowest | against float | lowest |",
              "|---|---:|---:|---:|---:|---:|---:|"]
    dialects = list(dict.fromkeys(row["dialect"] for row in rows))
    for dialect, threads in itertools.product([*dialects, "all"], sorted({row["threads"] for row in rows})):
        found = [row for row in rows if row["threads"] == threads and dialect in ("all", row["dialect"])]
        if not found:
            continue
        cells = [f"**{compare.geometric_mean([row[key][0] for row in found]):.2f}** | {min(row[key][0] for row in found):.2f}"
                 for key in ("peer", "float")]
        lines.append(f"| {dialect} | {len(found)} | {threads} | {cells[0]} | {cells[1]} |")
    return "\n".join(lines)


def measure_all(cases, threads, rounds):
    """Rows of all that could be measured, and a line for each that could not."""
    rows, failed, references = [], [], {}
    for case in cases:
        try:
            with tempfile.TemporaryDirectory() as folder:
                inputs = compare.save_inputs(case["entry"], 1, folder)
                if case["float"] not in references:
                    references = {case["float"]: quantise_models.first_output(case["float"], inputs)}
                answers = agreement(case["path"], references[case["float"]], inputs)
            for count in threads:
                rows.append({**measure(case, count, rounds), "answers": answers})
                print("{name}.{dialect}, {threads} thread(s): {0:.3f} ms, against ONNX Runtime {1:.2f}, against float {2:.2f}; "
                      "{answers}".format(rows[-1]["dunlin_ms"], rows[-1]["peer"][0], rows[-1]["float"][0], **rows[-1]),
                      flush=True)
        except RuntimeError as error:
            failed.append(f"{case['path'].name}: {error}")
    return rows, failed


def written_cases(entry, args):
    """The files of a model of bench/models.json, in the order of DIALECTS."""
    name, samples = entry["name"], args.samples.resolve()
    if not list(args.files_dir.glob(f"{name}.*.onnx")):
        args.files_dir.mkdir(parents=True, exist_ok=True)
        quantise_models.write_model(entry, samples, args.files_dir, args.dialects)
    paths = [(dialect, (args.files_dir / f"{name}.{dialect}.onnx").resolve()) for dialect in quantise_models.DIALECTS]
    return [{"name": name, "dialect": dialect, "path": path, "float": compare.model_path(entry, samples), "entry": entry}
            for dialect, path in paths if path.exists() and (not args.dialects or dialect in args.dialects)]


def file_cases(args):
    shapes = {name: compare.numbers(extents) for name, extents in (word.split("=") for word in args.shape)}
    return [{"name": path.stem, "dialect": "as found", "path": path.resolve(), "float": other.resolve(),
             "entry": {"inputs": inputs_of(path, shapes)}} for path, other in zip(args.file, args.float)]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*")
    parser.add_argument("--dialects", type=lambda text: text.split(","), default=[])
    parser.add_argument("--file", type=pathlib.Path, action="append", default=[], help="a quantised model")
    parser.add_argument("--float", type=pathlib.Path, action="append", default=[], help="what it was made from")
    parser.add_argument("--shape", action="append", default=[], help="NAME=1,3,640,640: extents of an input of --file")
    parser.add_argument("--threads", type=compare.numbers, default=[1, 2])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--files-dir", type=pathlib.Path, default=compare.ROOT / "build/bench-quantised")
    parser.add_argument("--samples", type=pathlib.Path, default=compare.ROOT / "build/models")
    parser.add_argument("--markdown", type=pathlib.Path)
    parser.add_argument("--json", type=pathlib.Path)
    args = parser.parse_args()
    entries = compare.load_entries()
    unknown = [name for name in args.models if name not in entries]
    if unknown or len(args.file) != len(args.float):
        parser.error(f"no model {unknown[0]} in bench/models.json" if unknown else "each --file needs a --float")
    names = args.models or ([] if args.file else quantise_models.MODELS)
    cases = [case for name in names for case in written_cases(entries[name], args)] + file_cases(args)
    rows, failed = measure_all(cases, args.threads, args.rounds)
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
