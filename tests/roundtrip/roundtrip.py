#!/usr/bin/python3
"""Writes models as ONNX (dunlin optimize -o) and compares what the written ones answer with what the originals do.

    tests/roundtrip/roundtrip.py samples [--models DIR] [--opset N]     the sample models, on the inputs of tests/parity
    tests/roundtrip/roundtrip.py cases [--data DIR] [--opset N]         ONNX's own test cases
    tests/roundtrip/roundtrip.py files MODEL… [--shape NAME=1,3,8,8]    any models, on random inputs

Each written model runs in ONNX Runtime and in Dunlin. It must answer as the original does in the same engine, pass ONNX's
checker where the installed one knows the opset, and be written the same again (byte by byte) when it is read. A model that
ONNX Runtime refuses as it was is compared in Dunlin alone. Exit code 1: something differs; 77: models, test data or ONNX
Runtime are not there, nothing was compared.
"""

import argparse
import json
import pathlib
import subprocess
import sys
import tempfile

import numpy as np

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests/parity"))
import cases  # noqa: E402
import parity  # noqa: E402

SKIPPED = 77
BOUND = 1e-3  # of the relative error as parity.py measures it: what folding a scale into weights may change


def checker_problem(path):
    """What ONNX's own checker says against a file; "" when it knows too little of its opset to say."""
    import onnx
    model = onnx.load(str(path), load_external_data=False)
    if any(o.version > onnx.defs.onnx_opset_version() for o in model.opset_import if not o.domain):
        return ""
    if any(o.domain not in ("", "ai.onnx.ml") for o in model.opset_import) or model.ir_version > onnx.IR_VERSION:
        return ""
    try:
        onnx.checker.check_model(str(path))
        onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True)
    except Exception as error:  # the checker has many kinds
        return f"checker: {str(error).strip().splitlines()[-1][:200]}"
    return ""


class Trip:
    def __init__(self, dunlin, folder, opset, threads=2):
        self.dunlin, self.folder, self.opset = dunlin, folder, opset
        words = ["--threads", threads]
        self.peer = parity.Peer("ONNX Runtime", ["node", ROOT / "tools/ort_worker.mjs", *words])
        self.ours = parity.Dunlin("Dunlin", [dunlin, "run", *words])
        self.reference = parity.Dunlin("Dunlin", [dunlin, "run", "--opt", "none", *words])

    def write(self, model, target, opset=0):
        words = [self.dunlin, "optimize", model, "-o", target, "--json"]
        return json.loads(parity.call(words + (["--opset", opset] if opset else [])))["written"]

    def same_again(self, written):
        again = self.folder / "again.onnx"
        self.write(written, again)
        return again.read_bytes() == written.read_bytes()

    def answers(self, engine, model, steps, names):
        results = []
        for step in steps:
            arrays = {name: results[-1][value.output] if isinstance(value, cases.Carried) else value
                      for name, value in step.items()}
            results.append(engine.run(model, arrays, names))
        return results

    def compare(self, engine, model, written, steps, names):
        """The largest relative error of the written model's answers, and a problem or ""."""
        want = self.answers(engine, model, steps, names)
        got = self.answers(engine, written, steps, names or list(want[0]))
        worst, problem = 0.0, ""
        for place, ours, theirs in parity.places(got, want):
            result = parity.compare(ours, theirs)
            problem = problem or result.get("problem", "")
            worst = max(worst, result.get("rel", 0.0))
            if result.get("rel", 0) > BOUND and not problem:
                problem = f"{engine.title}, {place}: relative error {result['rel']:.2g}"
        return worst, problem, list(want[0])

    def run(self, name, model, steps_of):
        """One row: what went wrong first, or ""."""
        written = self.folder / f"{name.replace('/', '_')}.onnx"
        row = {"model": name, "opset": 0, "peer": None, "ours": None, "problem": "", "note": ""}
        try:
            report = self.write(model, written, self.opset)
            row["opset"] = report["opset"]
            row["problem"] = checker_problem(written)
            if not self.opset and not self.same_again(written):
                row["problem"] = row["problem"] or "read again, it is written otherwise"
            steps = steps_of()
        except parity.EngineError as error:
            row["problem"] = str(error)
            return row
        names = None
        try:
            self.answers(self.peer, model, steps, None)
        except parity.EngineError as error:
            row["note"] = f"refused by ONNX Runtime as it was: {error}"
        try:
            if not row["note"]:
                row["peer"], problem, names = self.compare(self.peer, model, written, steps, None)
                row["problem"] = row["problem"] or self.excuse(problem, row, model, steps)
            row["ours"], problem, _ = self.compare(self.ours, model, written, steps, names or self.outputs(model))
            row["problem"] = row["problem"] or self.excuse(problem, row, model, steps)
        except parity.EngineError as error:
            row["problem"] = row["problem"] or str(error)
        return row

    def outputs(self, model):
        return [o["name"] for o in json.loads(parity.call([self.dunlin, "inspect", model, "--json"]))["outputs"]]

    def excuse(self, problem, row, model, steps):
        """A model on which one engine differs from itself as much, by its optimisations alone, is ill-conditioned."""
        if not problem or "relative error" not in problem:
            return problem
        plain = parity.Peer("as written", [*self.peer.command, "--optimisation", "disabled"])
        want = self.answers(self.peer, model, steps, None)
        again = self.answers(plain, model, steps, None)
        spread = max(parity.compare(*pair).get("rel", 0) for _, *pair in parity.places(again, want))
        if max(row["peer"] or 0, row["ours"] or 0) > 2 * spread:
            return problem
        row["note"] = f"ill-conditioned: ONNX Runtime differs from itself by {spread:.2g}"
        return ""


def sample_rows(trip, args):
    groups = cases.groups(lambda: (args.models / "ppocr_rec/labels.txt").read_text().splitlines())
    chosen = [case for group in groups.values() for case in group if args.only in case.name]
    path = {case.model: args.models / case.model / "1/model.onnx" for case in chosen}
    for case in chosen:
        if path[case.model].exists():
            yield trip.run(case.name, path[case.model],
                           lambda case=case: list(case.steps(lambda m, a: trip.peer.run(path[m], a))))


def case_arrays(folder):
    """The inputs of a test case's first data set; None where they are no tensors."""
    import onnx
    from onnx import numpy_helper
    graph = onnx.load(str(folder / "model.onnx"), load_external_data=False).graph
    arrays = {}
    for i, port in enumerate(graph.input):
        file = folder / f"test_data_set_0/input_{i}.pb"
        if not port.type.HasField("tensor_type"):
            return None
        if file.exists():
            tensor = onnx.TensorProto()
            tensor.ParseFromString(file.read_bytes())
            arrays[port.name] = numpy_helper.to_array(tensor)
    tensors = all(port.type.HasField("tensor_type") for port in graph.output)
    return arrays if tensors and all(a.dtype.kind not in "OSUc" for a in arrays.values()) else None


RANDOM = ("bernoulli", "training_dropout", "momentum", "adagrad", "adam", "gradient")  # no answer to compare


def run_jobs(trip, jobs):
    """One line of answers per job from one process of the peer; a job that ends the process has an error."""
    lines = []
    while len(lines) < len(jobs):
        listing = trip.folder / "jobs.txt"
        listing.write_text("".join(json.dumps(job) + "\n" for job in jobs[len(lines):]))
        result = subprocess.run(["node", str(ROOT / "tools/ort_worker.mjs"), "--jobs", str(listing)],
                                capture_output=True, text=True, cwd=ROOT)
        lines += [json.loads(line) for line in result.stdout.splitlines() if line.startswith("{")]
        if len(lines) < len(jobs):
            lines.append({"error": f"ONNX Runtime ended with {result.returncode}"})
    return lines


def case_rows(trip, args):
    """Dunlin's side of every case is the conformance tool's --round-trip; here the peer reads what that wrote."""
    written = trip.folder / "cases"
    written.mkdir()
    words = [args.dunlin.parent / "tests/conformance/conformance", "--data", args.data, "--round-trip", written]
    parity.call(words + (["--opset", args.opset] if args.opset else []))
    rows, jobs = [], []
    for file in sorted(written.glob("*.onnx")):
        folder = next(args.data.glob(f"*/{file.stem}"))
        arrays = case_arrays(folder)
        if args.only not in file.stem or any(word in file.stem for word in RANDOM) or arrays is None:
            continue
        inputs = {}
        for i, (name, array) in enumerate(arrays.items()):
            inputs[name] = str(written / f"{file.stem}_{i}.npy")
            np.save(inputs[name], np.asarray(array, order="C"))
        rows.append({"model": file.stem, "opset": args.opset, "peer": None, "ours": None,
                     "problem": checker_problem(file), "note": ""})
        for model, kind in ((folder / "model.onnx", "was"), (file, "is")):
            jobs.append({"model": str(model), "inputs": inputs, "outputDir": str(written / f"{file.stem}_{kind}")})
    answers = run_jobs(trip, jobs)
    for i, row in enumerate(rows):
        was, now = answers[2 * i], answers[2 * i + 1]
        if "error" in was:
            row["note"] = "refused by ONNX Runtime as it was"
        elif "error" in now:
            row["problem"] = row["problem"] or now["error"]
        elif was["outputs"] != now["outputs"]:
            row["problem"] = "other outputs"
        else:
            compare_folders(row, jobs[2 * i]["outputDir"], jobs[2 * i + 1]["outputDir"], len(was["outputs"]))
        yield row


def compare_folders(row, was, now, count):
    row["peer"] = 0.0
    for i in range(count):
        result = parity.compare(np.load(f"{now}/{i}.npy"), np.load(f"{was}/{i}.npy"))
        row["peer"] = max(row["peer"], result.get("rel", 0.0))
        wrong = result.get("problem") or (result["rel"] > BOUND and f"output {i}: relative error {result['rel']:.2g}")
        row["problem"] = row["problem"] or wrong or ""


NUMPY = {"f32": np.float32, "f16": np.float16, "f64": np.float64, "i64": np.int64, "i32": np.int32, "i8": np.int8,
         "u8": np.uint8, "bool": np.bool_, "i16": np.int16, "u16": np.uint16, "u32": np.uint32, "u64": np.uint64}


def random_arrays(trip, model, shapes):
    rng = np.random.default_rng(5)
    arrays = {}
    for port in json.loads(parity.call([trip.dunlin, "inspect", model, "--json"]))["inputs"]:
        dims = shapes.get(port["name"]) or [d if isinstance(d, int) and d >= 0 else 1 for d in port["shape"]]
        dtype = NUMPY[port["dtype"]]
        floats = np.dtype(dtype).kind == "f"
        arrays[port["name"]] = (rng.standard_normal(dims) if floats else rng.integers(0, 2, dims)).astype(dtype)
    return arrays


def file_rows(trip, args):
    shapes = {}
    for text in args.shape:
        name, dims = text.rsplit("=", 1)
        shapes[name] = [int(d) for d in dims.split(",")]
    for model in args.what[1:]:
        model = pathlib.Path(model).resolve()
        yield trip.run(model.stem, model, lambda model=model: [random_arrays(trip, model, shapes)])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", nargs="+", help="samples, cases, or files MODEL…")
    parser.add_argument("--models", type=pathlib.Path, default=ROOT / "build/models")
    parser.add_argument("--data", type=pathlib.Path, default=pathlib.Path("/usr/share/libonnx-testdata/data"))
    parser.add_argument("--dunlin", type=pathlib.Path, default=ROOT / "build/release/dunlin")
    parser.add_argument("--opset", type=int, default=0)
    parser.add_argument("--only", default="")
    parser.add_argument("--shape", action="append", default=[])
    parser.add_argument("--json", type=pathlib.Path)
    args = parser.parse_args()
    args.models = args.models.resolve()
    rows_of = {"samples": sample_rows, "cases": case_rows, "files": file_rows}[args.what[0]]
    needed = {"samples": args.models, "cases": args.data}.get(args.what[0], ROOT)
    if not (ROOT / "build/npm/node_modules/onnxruntime-node").exists() or not needed.exists():
        print(f"skipped: {needed} or ONNX Runtime (tools/fetch_ort.sh) is not there")
        return SKIPPED
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        trip = Trip(args.dunlin.resolve(), pathlib.Path(folder), args.opset)
        for row in rows_of(trip, args):
            rows.append(row)
            figures = " ".join("       -" if row[k] is None else f"{row[k]:8.1e}" for k in ("peer", "ours"))
            result = f"FAILED {row['problem']}" if row["problem"] else f"ok {row['note']}"
            print(f"{row['model'][:48]:48} {row['opset']:3} {figures}  {result}", flush=True)
    if args.json:
        args.json.write_text(json.dumps(rows, indent=1) + "\n")
    if not rows:
        print("skipped: no models")
        return SKIPPED
    failed = sum(bool(row["problem"]) for row in rows)
    print(f"{len(rows) - failed} of {len(rows)} are the same after the round trip")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
