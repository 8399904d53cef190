#!/usr/bin/python3
"""Runs the sample models in Dunlin and in ONNX Runtime on the same inputs and compares every output.

    tests/parity/parity.py [group…] [--models DIR] [--json FILE] [--threads N]

Errors are elementwise: absolute |a - b|, relative |a - b| / max(|b|, 1 % of the largest |b| of the tensor, 1e-4), so that
elements near zero are judged against the scale of their tensor, and a lone probability against f32's resolution of 1
(ONNX Runtime's own sigmoid returns 0 below about 1e-9). "of max" is |a - b| over the tensor's largest |b|. "agree" is the share of rows (last axis) where Dunlin's
largest element is ONNX Runtime's largest too, or one equal to it within the bound; of models in low precision it is the
share of equal decisions (such as: this pixel is in front), which must be 99 %, and decides alone. A case whose error exceeds the bound
passes when ONNX Runtime's own answer moves as much once its graph optimisations are off: the table says so. Exit code 1: a case fails; 77: the
models or ONNX Runtime are not there (tools/fetch_ort.sh, dunlin models fetch), nothing was compared.
"""

import argparse
import json
import pathlib
import re
import subprocess
import sys
import tempfile

import numpy as np

import cases

ROOT = pathlib.Path(__file__).resolve().parents[2]
SKIPPED = 77
BOUND = 1e-3
DECISIONS = 0.99  # share of equal decisions where a case has such
SMALLEST = 1e-4  # magnitudes below count as this


class EngineError(Exception):
    pass


def call(command):
    result = subprocess.run([str(word) for word in command], capture_output=True, text=True, cwd=ROOT, timeout=600)
    if result.returncode != 0:
        lines = (result.stderr or result.stdout).strip().splitlines() or ["no message"]
        raise EngineError(f"exit code {result.returncode}: {lines[-1][:300]}")
    return result.stdout


def plain(name):
    return re.sub(r"[^A-Za-z0-9]", "_", name)


class Engine:
    """run(model file, {input: array}) → {output: array}."""

    def __init__(self, title, command):
        self.title = title
        self.command = command

    def run(self, model, arrays, names=None):
        with tempfile.TemporaryDirectory() as folder:
            folder = pathlib.Path(folder)
            words = [*self.command, model, "--output-dir", folder / "out"]
            for i, (name, array) in enumerate(arrays.items()):
                np.save(folder / f"{i}.npy", np.asarray(array, order="C"))
                words += ["--input", f"{name}={folder / f'{i}.npy'}"]
            stdout = call(words)
            return self.read(folder / "out", stdout, names)


class Peer(Engine):
    def read(self, folder, stdout, names):
        return {name: np.load(folder / f"{i}.npy") for i, name in enumerate(json.loads(stdout)["outputs"])}


class Dunlin(Engine):
    def read(self, folder, stdout, names):
        files = {plain(path.stem): path for path in folder.glob("*.npy")}
        missing = [name for name in names if plain(name) not in files]
        if missing:
            raise EngineError(f"no output {missing[0]!r} among {sorted(files)}")
        return {name: np.load(files[plain(name)]) for name in names}


def compare(got, want):
    """Max absolute and relative error and arg-max agreement of one tensor, or what makes them incomparable."""
    if got.shape != want.shape or got.dtype != want.dtype:
        return {"problem": f"{got.dtype}{list(got.shape)} instead of {want.dtype}{list(want.shape)}"}
    if want.dtype.kind != "f":
        return {"abs": float((got != want).sum()), "rel": float((got != want).any()), "of_max": 0.0, "agree": 1.0}
    got, want = got.astype(np.float64), want.astype(np.float64)
    finite = np.isfinite(want)
    same_odd = (got == want) | (np.isnan(got) & np.isnan(want))
    if not (finite == np.isfinite(got)).all() or not same_odd[~finite].all():
        return {"problem": f"{int((finite != np.isfinite(got)).sum())} elements are NaN or infinite on one side only"}
    if not finite.any():
        return {"abs": 0.0, "rel": 0.0, "of_max": 0.0, "agree": 1.0}
    difference = np.abs(got - want, where=finite, out=np.zeros(want.shape))
    largest = np.abs(want[finite]).max()
    floor = max(0.01 * largest, SMALLEST)
    relative = difference / np.maximum(np.abs(want, where=finite, out=np.zeros(want.shape)), floor)
    return {"abs": float(difference.max()), "rel": float(relative.max()),
            "of_max": float(difference.max() / max(largest, SMALLEST)), "agree": agreement(got, want, floor)}


def agreement(got, want, floor):
    if want.ndim == 0 or want.shape[-1] < 2:
        return 1.0
    got, want = (np.nan_to_num(a).reshape(-1, a.shape[-1]) for a in (got, want))
    chosen = np.take_along_axis(want, got.argmax(-1)[:, None], -1)[:, 0]
    best = want.max(-1)
    return float((best - chosen <= BOUND * np.maximum(np.abs(best), floor)).mean())


class Comparison:
    def __init__(self, models, threads, dunlin):
        self.models = models
        words = ["--threads", threads]
        self.peer = Peer("ONNX Runtime", ["node", ROOT / "tools/ort_worker.mjs", *words])
        self.plain_peer = Peer("ONNX Runtime as written", [*self.peer.command, "--optimisation", "disabled"])
        self.dunlin = Dunlin("Dunlin", [dunlin, "run", *words])
        self.answers = {}  # our own, by case

    def path(self, model):
        return self.models / model / "1" / "model.onnx"

    def run_steps(self, engine, case, steps, names=None):
        results = []
        for step in steps:
            arrays = {name: results[-1][value.output] if isinstance(value, cases.Carried) else value
                      for name, value in step.items()}
            results.append(engine.run(self.path(case.model), arrays, names))
        return results

    def run(self, case):
        """One row of the report."""
        row = {"case": case.name, "abs": 0.0, "rel": 0.0, "of_max": 0.0, "agree": 1.0, "outputs": {}, "means": "",
               "problem": ""}
        try:
            steps = list(case.steps(lambda model, arrays: self.peer.run(self.path(model), arrays)))
            want = self.run_steps(self.peer, case, steps)
            if case.means:
                row["means"] = case.means(want)
        except (EngineError, AssertionError) as error:
            return {**row, "problem": f"ONNX Runtime: {error}"}
        try:
            got = self.run_steps(self.dunlin, case, steps, list(want[0]))
        except EngineError as error:
            return {**row, "problem": f"Dunlin: {error}"}
        self.judge(case, row, got, want)
        self.answers[case.name] = got
        if case.same_as in self.answers and not row["problem"]:
            self.compare_exports(case, row, got)
        return row

    def compare_exports(self, case, row, got):
        """Exports of one network: the outputs that both name."""
        other = self.answers[case.same_as]
        common = [{name: step[name] for name in step if name in other[0]} for step in got]
        worst = max((compare(ours, theirs) for _, ours, theirs in places(other, common)),
                    key=lambda result: result.get("rel", float("inf")))
        if worst.get("rel", float("inf")) > BOUND:
            row["problem"] = f"Dunlin: differs from {case.same_as}: {worst.get('problem') or worst['rel']}"
        row["means"] += f"; as {case.same_as}"

    def judge(self, case, row, got, want):
        for place, ours, theirs in places(got, want):
            result = row["outputs"][place] = compare(ours, theirs)
            if "problem" in result:
                row["problem"] = f"{place}: {result['problem']}"
                return
            if result["rel"] > max(row["rel"], BOUND) and not case.decides:
                row["problem"] = f"{place}: relative error {result['rel']:.2g}"
            for figure in ("abs", "rel", "of_max"):
                row[figure] = max(row[figure], result[figure])
            if not case.decides:
                row["agree"] = min(row["agree"], result["agree"])
        if case.decides:
            row["agree"] = min(float((case.decides(a) == case.decides(b)).mean()) for a, b in zip(got, want))
        if row["agree"] < (DECISIONS if case.decides else 1) and not row["problem"]:
            row["problem"] = "arg-max differs"
        if row["problem"] and not case.decides:
            self.weigh_against_spread(case, row, want)
        if case.means and not row["problem"]:
            try:
                row["means"] = case.means(got)
            except AssertionError as error:
                row["problem"] = f"Dunlin: {error}"

    def weigh_against_spread(self, case, row, want):
        """An ill-conditioned model is no fault of ours: ONNX Runtime differs from itself on it."""
        steps = list(case.steps(lambda model, arrays: self.peer.run(self.path(model), arrays)))
        again = [compare(*pair) for _, *pair in places(self.run_steps(self.plain_peer, case, steps), want)]
        spread = max(result["rel"] for result in again)
        row["spread"] = spread
        if row["rel"] <= 2 * spread and row["agree"] >= min(result["agree"] for result in again):
            row["problem"] = ""
            row["means"] = f"ill-conditioned: ONNX Runtime differs from itself by {spread:.2g}"


def places(got, want):
    """Every output of every step: its name, our tensor, theirs."""
    for i, (ours, theirs) in enumerate(zip(got, want)):
        for name, tensor in theirs.items():
            yield (f"{name}, step {i + 1}" if len(want) > 1 else name), ours[name], tensor


def print_table(rows):
    width = max(len(row["case"]) for row in rows)
    print(f"{'case':{width}}  {'max abs':>9}  {'max rel':>9}  {'of max':>9}  {'agree':>7}  result")
    for row in rows:
        result = f"FAILED {row['problem']}" if row["problem"] else f"ok     {row['means']}"
        print(f"{row['case']:{width}}  {row['abs']:9.2e}  {row['rel']:9.2e}  {row['of_max']:9.2e}  {100 * row['agree']:6.2f}%  {result}")
    failed = sum(bool(row["problem"]) for row in rows)
    excused = sum("spread" in row and not row["problem"] for row in rows)
    note = f", {excused} of them only as closely as ONNX Runtime agrees with itself" if excused else ""
    print(f"{len(rows) - failed} of {len(rows)} cases agree: relative error at most {BOUND:g}, or 99 % of the decisions of low precision{note}")
    return failed


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("groups", nargs="*", help="ocr, silero, wakeword, detectors, segmentation (default: all)")
    parser.add_argument("--models", type=pathlib.Path, default=ROOT / "build/models", help="model repository")
    parser.add_argument("--dunlin", type=pathlib.Path, default=ROOT / "build/release/dunlin", help="the binary")
    parser.add_argument("--json", type=pathlib.Path, help="write all figures to this file")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--only", default="", help="cases whose name contains this")
    args = parser.parse_args()
    comparison = Comparison(args.models.resolve(), args.threads, args.dunlin.resolve())
    groups = cases.groups(lambda: (args.models / "ppocr_rec/labels.txt").read_text().splitlines())
    chosen = [case for name in args.groups or groups for case in groups[name] if args.only in case.name]
    absent = sorted({case.model for case in chosen if not comparison.path(case.model).exists()})
    if not (ROOT / "build/npm/node_modules/onnxruntime-node").exists() or absent:
        print(f"skipped: not there: {', '.join(absent) or 'ONNX Runtime (tools/fetch_ort.sh)'}")
        return SKIPPED
    rows = [comparison.run(case) for case in chosen]
    if args.json:
        args.json.write_text(json.dumps(rows, indent=1, ensure_ascii=False) + "\n")
    return 1 if print_table(rows) else 0


if __name__ == "__main__":
    sys.exit(main())
