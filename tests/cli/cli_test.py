#!/usr/bin/env python3
"""The command line as a person meets it: the real program, its answers, its exit codes, its errors.

    tests/cli/cli_test.py DUNLIN [unittest options]
"""

import array
import ast
import hashlib
import json
import math
import os
import pathlib
import signal
import struct
import subprocess
import sys
import tempfile
import threading
import time
import unittest
import xml.etree.ElementTree

import onnx_bytes as onnx

ROOT = pathlib.Path(__file__).resolve().parents[2]
ASSETS = ROOT / "assets"
TINY = ASSETS / "tiny_fashion.onnx"
DUNLIN = None

OK, FAILURE, USAGE, MODEL, UNSUPPORTED, INPUT, SERVER, INTERRUPTED = 0, 1, 2, 3, 4, 5, 6, 130


def dunlin(*words, env=None, cwd=None):
    command = [DUNLIN, *map(str, words)]
    return subprocess.run(command, capture_output=True, timeout=120, cwd=cwd, env={**os.environ, **(env or {})})


def npy(path):
    """(descr, shape, bytes) of a .npy file."""
    data = path.read_bytes()
    length = struct.unpack_from("<H", data, 8)[0]
    header = ast.literal_eval(data[10 : 10 + length].decode())
    assert data[:8] == b"\x93NUMPY\x01\x00" and (10 + length) % 64 == 0 and not header["fortran_order"]
    return header["descr"], header["shape"], data[10 + length :]


def npy_bytes(descr, shape, data):
    header = repr({"descr": descr, "fortran_order": False, "shape": shape}).encode() + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + data


class Case(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)

    def file(self, name, content):
        path = self.folder / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    def succeeds(self, *words, **options):
        result = dunlin(*words, **options)
        self.assertEqual(result.returncode, OK, result.stderr.decode())
        return result.stdout.decode()

    def fails(self, code, says, *words, **options):
        """The exit code, one line on stderr that holds `says`, nothing on stdout."""
        result = dunlin(*words, **options)
        error = result.stderr.decode()
        self.assertEqual(result.returncode, code, error)
        last = error.splitlines()[-1] if error else ""
        self.assertTrue(last.startswith("dunlin: "), error)
        self.assertIn(says, last)
        # Notes about generated inputs may come before the error, nothing after it.
        self.assertEqual(sum(line.startswith("dunlin: ") for line in error.splitlines()), 1, error)
        self.assertEqual(result.stdout, b"")
        return last


class Help(Case):
    COMMANDS = ["serve", "run", "check", "inspect", "optimize", "bench", "infer", "perf", "models", "models list", "models fetch", "ops"]

    def test_lists_every_command_and_the_exit_codes(self):
        text = self.succeeds("--help")
        for command in {c.split()[0] for c in self.COMMANDS}:
            self.assertIn(f"\n  {command} ", text)
        self.assertIn("Exit codes: 0 done", text)

    def test_every_command_has_an_example(self):
        for command in self.COMMANDS:
            text = self.succeeds(*command.split(), "--help")
            self.assertIn(f"\n  dunlin {command}", text.split("Examples:")[1])

    def test_version_names_the_program_and_the_instructions_it_uses(self):
        self.assertRegex(self.succeeds("--version"), r"^dunlin \d+\.\d+\.\d+ \(\w+\)\n$")


class Usage(Case):
    def test_mistakes_are_one_line_that_says_where_help_is(self):
        for words, says in [
            ([], "see dunlin --help"),
            (["rum"], "no command is called 'rum'"),
            (["run"], "MODEL is required; see dunlin run --help"),
            (["run", TINY, "--bogus"], "--bogus"),
            (["run", TINY, "--threads", "-1"], "not in range"),
            (["run", TINY, "--resize", "224"], "not a size such as 224,224"),
            (["run", TINY, "--opt", "fast"], "none of default|none"),
            (["run", TINY, "--labels", "x"], "--top-k"),
            (["models"], "see dunlin models --help"),
            (["models", "fetch", "nope"], "no sample model is called 'nope'"),
        ]:
            with self.subTest(words=words):
                self.fails(USAGE, says, *words)


class Run(Case):
    def test_a_picture_becomes_a_label(self):
        text = self.succeeds("run", TINY, "--input", ASSETS / "tiny_fashion_boot.png", "--top-k", 2,
                             "--labels", ASSETS / "tiny_fashion_labels.txt")
        first = text.splitlines()[1].split()
        self.assertEqual(first[1:], ["9", "Ankle", "boot"])
        self.assertGreater(float(first[0]), 0.5)

    def test_outputs_are_npy_files(self):
        self.succeeds("run", TINY, "--shape", "image=3,1,28,28", "--output-dir", self.folder / "out")
        descr, shape, data = npy(self.folder / "out/probabilities.npy")
        self.assertEqual((descr, shape), ("<f4", (3, 10)))
        values = array.array("f", data)
        for row in range(3):
            self.assertAlmostEqual(sum(values[row * 10 : row * 10 + 10]), 1, places=5)

    def test_generated_inputs_depend_on_the_seed_alone(self):
        answers = []
        for name, seed in (("a", 5), ("b", 5), ("c", 6)):
            self.succeeds("run", TINY, "--seed", seed, "--output-dir", self.folder / name)
            answers.append((self.folder / name / "probabilities.npy").read_bytes())
        self.assertEqual(answers[0], answers[1])
        self.assertNotEqual(answers[0], answers[2])

    def test_optimisation_and_threads_do_not_change_the_answer(self):
        sets = [["--opt", "none"], ["--opt", "default", "--threads", 1], ["--threads", 2]]
        answers = []
        for i, flags in enumerate(sets):
            self.succeeds("run", TINY, "--output-dir", self.folder / str(i), *flags)
            answers.append(array.array("f", npy(self.folder / str(i) / "probabilities.npy")[2]))
        for answer in answers[1:]:
            for a, b in zip(answers[0], answer):
                self.assertAlmostEqual(a, b, places=5)

    def test_npy_and_raw_files_of_the_same_values_agree(self):
        values = array.array("f", (i / 784 for i in range(784))).tobytes()
        as_npy = self.file("x.npy", npy_bytes("<f4", (1, 1, 28, 28), values))
        as_raw = self.file("x.raw", values)
        self.assertEqual(self.succeeds("run", TINY, "--input", f"image={as_npy}"),
                         self.succeeds("run", TINY, "--input", f"image={as_raw}"))

    def test_a_slash_in_an_output_name_becomes_an_underscore(self):
        path = self.file("m.onnx", onnx.model(
            [onnx.node("Identity", ["x"], ["a/b:0"])],
            [onnx.value("x", onnx.tensor_type(onnx.FLOAT, [2]))],
            [onnx.value("a/b:0", onnx.tensor_type(onnx.FLOAT, [2]))]))
        self.succeeds("run", path, "--fill", "x=2.5", "--output-dir", self.folder)
        self.assertEqual(npy(self.folder / "a_b:0.npy")[2], struct.pack("<2f", 2.5, 2.5))

    def test_a_sequence_becomes_numbered_files(self):
        path = self.file("m.onnx", onnx.model(
            [onnx.node("SequenceConstruct", ["x", "y"], ["s"])],
            [onnx.value("x", onnx.tensor_type(onnx.INT64, [1])), onnx.value("y", onnx.tensor_type(onnx.INT64, [1]))],
            [onnx.value("s", onnx.sequence_type(onnx.INT64, [1]))]))
        self.succeeds("run", path, "--fill", "x=7", "--fill", "y=-8", "--output-dir", self.folder)
        self.assertEqual(npy(self.folder / "s.0.npy"), ("<i8", (1,), struct.pack("<q", 7)))
        self.assertEqual(npy(self.folder / "s.1.npy"), ("<i8", (1,), struct.pack("<q", -8)))

    def test_maps_are_printed_and_written_as_json(self):
        path = self.file("m.onnx", onnx.model(
            [onnx.node("ZipMap", ["x"], ["z"], domain="ai.onnx.ml",
                       attributes=[onnx.strings("classlabels_strings", ["no", "yes"])])],
            [onnx.value("x", onnx.tensor_type(onnx.FLOAT, ["n", 2]))],
            [onnx.value("z", onnx.block(4, onnx.block(1, onnx.map_type(onnx.STRING, onnx.FLOAT))))]))
        x = self.file("x.npy", npy_bytes("<f4", (2, 2), struct.pack("<4f", 0.25, 0.75, 1, float("nan"))))
        self.assertEqual(self.succeeds("run", path, "--input", x),
                         'z: sequence of 2 maps\n  [0] {"no": 0.25, "yes": 0.75}\n  [1] {"no": 1, "yes": nan}\n')
        self.succeeds("run", path, "--input", x, "--output-dir", self.folder)
        self.assertEqual(json.loads((self.folder / "z.json").read_text()),
                         [{"no": 0.25, "yes": 0.75}, {"no": 1.0, "yes": None}])
        self.assertIn("map(string,f32)", self.succeeds("inspect", path))

    def test_a_map_is_read_from_json(self):
        path = self.file("m.onnx", onnx.model(
            [onnx.node("DictVectorizer", ["m"], ["y"], domain="ai.onnx.ml",
                       attributes=[onnx.strings("string_vocabulary", ["a", "c", "b", "z"])])],
            [onnx.value("m", onnx.map_type(onnx.STRING, onnx.INT64))],
            [onnx.value("y", onnx.tensor_type(onnx.INT64, [1, 4]))]))
        for text in ['{"a": 4, "c": 8}', '[["c", 8], ["a", 4]]']:
            self.succeeds("run", path, "--input", f"m={self.file('m.json', text)}", "--output-dir", self.folder)
            self.assertEqual(npy(self.folder / "y.npy"), ("<i8", (1, 4), struct.pack("<4q", 4, 8, 0, 0)))
        for text in ['{"a": 0.5}', "[4, 8]", '{"a": 4, "a": 5}', "{"]:
            self.fails(INPUT, "m", "run", path, "--input", f"m={self.file('m.json', text)}")
        self.fails(INPUT, "input 'm' is a map; give it with --input m=FILE.json", "run", path)
        self.fails(INPUT, "which only 'dunlin run' can give", "bench", path)

    def test_an_output_that_cannot_be_written_is_a_failure(self):
        self.fails(FAILURE, "cannot make the folder", "run", TINY, "--output-dir", "/dev/null/x")
        with open("/dev/full", "wb") as full:
            result = subprocess.run([DUNLIN, "run", TINY], stdout=full, stderr=subprocess.PIPE, check=False)
        self.assertEqual(result.returncode, FAILURE)
        self.assertIn(b"cannot write to standard output", result.stderr)


class BadModels(Case):
    def test_a_missing_or_malformed_file_is_a_model_error(self):
        self.fails(MODEL, "No such file", "run", self.folder / "none.onnx")
        self.fails(MODEL, "", "run", self.folder)
        self.fails(MODEL, "", "inspect", self.file("text.onnx", "this is not a model"))
        self.fails(MODEL, "", "bench", self.file("empty.onnx", b""))

    def test_every_cut_of_a_model_is_an_error_not_a_crash(self):
        whole = TINY.read_bytes()
        for share in (0.001, 0.01, 0.3, 0.7, 0.999):
            cut = self.file("cut.onnx", whole[: int(len(whole) * share)])
            result = dunlin("run", cut)
            self.assertEqual(result.returncode, MODEL, (share, result.stderr))

    def test_an_operator_we_lack_is_named_with_its_node(self):
        path = self.file("m.onnx", onnx.model(
            [onnx.node("Frobnicate", ["x"], ["y"], name="the_node")],
            [onnx.value("x", onnx.tensor_type(onnx.FLOAT, [1]))],
            [onnx.value("y", onnx.tensor_type(onnx.FLOAT, [1]))]))
        line = self.fails(UNSUPPORTED, "Frobnicate", "run", path)
        self.assertIn("the_node", line)

    def test_a_cycle_is_a_model_error(self):
        path = self.file("m.onnx", onnx.model(
            [onnx.node("Add", ["x", "b"], ["a"]), onnx.node("Identity", ["a"], ["b"])],
            [onnx.value("x", onnx.tensor_type(onnx.FLOAT, [1]))],
            [onnx.value("b", onnx.tensor_type(onnx.FLOAT, [1]))]))
        self.fails(MODEL, "", "run", path)


class BadInputs(Case):
    def test_what_does_not_fit_the_model_is_an_input_error(self):
        double = self.file("double.npy", npy_bytes("<f8", (1, 1, 28, 28), bytes(784 * 8)))
        small = self.file("small.npy", npy_bytes("<f4", (1, 1, 27, 28), bytes(27 * 28 * 4)))
        hostile = self.file("hostile.npy", npy_bytes("<f4", (2**40, 2**40), b""))
        cut = self.file("cut.png", (ASSETS / "tiny_fashion_boot.png").read_bytes()[:100])
        for words, says in [
            (["--input", f"image={double}"], "it holds f64, the model's input is f32"),
            (["--input", f"image={small}"], ""),
            (["--input", f"image={hostile}"], "does not match"),
            (["--input", f"image={cut}"], "damaged PNG"),
            (["--input", "image=/no/such.npy"], "No such file"),
            (["--input", f"nope={small}"], "the model's inputs are 'image'"),
            (["--shape", "image=1,2,28,28"], ""),
            (["--shape", "image=1,1,28"], ""),
            (["--shape", "image=1,-1,28,28"], "not a shape"),
            (["--fill", "image=abc"], "not a value of type f32"),
        ]:
            with self.subTest(words=words):
                self.fails(INPUT, says, "run", TINY, *words)

    def test_a_fixed_batch_refuses_another(self):
        path = self.file("m.onnx", onnx.model(
            [onnx.node("Identity", ["x"], ["y"])],
            [onnx.value("x", onnx.tensor_type(onnx.FLOAT, [2, 3]))],
            [onnx.value("y", onnx.tensor_type(onnx.FLOAT, [2, 3]))]))
        self.fails(INPUT, "batch is fixed", "bench", path, "--batch", 8)


class Bench(Case):
    def test_json_has_the_promised_keys(self):
        report = json.loads(self.succeeds("bench", TINY, "--seconds", 0.05, "--warmup", 1, "--threads", 1, "--json"))
        for key in ("median_ms", "min_ms", "p90_ms", "p99_ms", "runs", "load_ms", "arena_bytes", "peak_rss_bytes"):
            self.assertGreater(report[key], 0, key)
        self.assertLessEqual(report["min_ms"], report["median_ms"])
        self.assertLessEqual(report["median_ms"], report["p90_ms"])
        self.assertLessEqual(report["p90_ms"], report["p99_ms"])

    def test_batch_multiplies_the_throughput_figure(self):
        report = json.loads(self.succeeds("bench", TINY, "--seconds", 0, "--batch", 4, "--json"))
        self.assertEqual(report["batch"], 4)
        self.assertAlmostEqual(report["throughput_per_s"], 4000 / report["mean_ms"], delta=report["throughput_per_s"] / 100)

    def test_tune_measures_once_and_keeps_what_it_found(self):
        file = self.folder / "tune.json"
        words = ("bench", TINY, "--seconds", 0, "--threads", 1, "--tune", "--tune-file", file)
        self.assertIn("steps that have a choice", self.succeeds(*words))
        found = json.loads(file.read_text())["choices"]
        self.assertGreater(len(found), 0)
        before = file.stat()
        self.succeeds(*words)
        self.assertEqual((file.stat().st_ino, file.stat().st_mtime_ns), (before.st_ino, before.st_mtime_ns))

    def test_tune_warns_of_a_file_that_is_not_its_own_and_leaves_it(self):
        file = self.file("model.onnx", TINY.read_bytes())
        run = dunlin("bench", TINY, "--seconds", 0, "--tune", "--tune-file", file)
        self.assertEqual(run.returncode, OK, run.stderr)
        self.assertIn(str(file).encode(), run.stderr)
        self.assertEqual(file.read_bytes(), TINY.read_bytes())

    def test_roofline_is_a_picture_of_the_steps(self):
        picture = self.folder / "roof.svg"
        self.succeeds("bench", TINY, "--seconds", 0, "--threads", 1, "--roofline", picture)
        titles = [e.text for e in xml.etree.ElementTree.parse(picture).iter("{http://www.w3.org/2000/svg}title")]
        self.assertTrue(any("conv" in title for title in titles), titles)

    def test_profile_names_the_operators_and_the_trace_is_json(self):
        trace = self.folder / "trace.json"
        text = self.succeeds("bench", TINY, "--seconds", 0, "--profile", "--trace", trace)
        self.assertIn("Softmax", text)
        self.assertIn("By operator", text)
        self.assertIn("% of roof", text)
        events = [e for e in json.loads(trace.read_text())["traceEvents"] if e["ph"] == "X"]
        self.assertTrue(any(e["name"] == "Softmax" for e in events))
        for before, after in zip(events, events[1:]):
            self.assertAlmostEqual(before["ts"] + before["dur"], after["ts"], delta=0.01)


class Compare(Case):
    def images(self):
        descr, shape, pixels = npy(ASSETS / "tiny_fashion_sample_images.npy")
        self.assertEqual(descr, "|u1")
        return self.file("images.npy", npy_bytes("<f4", (shape[0], 1, 28, 28), array.array("f", (p / 255 for p in pixels)).tobytes()))

    def quantised(self, scale):
        """x -> Relu -> y, and the same through codes of that scale, as quantisers name the values."""
        ports = [onnx.value("x", onnx.tensor_type(onnx.FLOAT, [1, 4]))], [onnx.value("y", onnx.tensor_type(onnx.FLOAT, [1, 4]))]
        last = onnx.node("Neg", ["h"], ["y"])
        plain = onnx.model([onnx.node("Relu", ["x"], ["h"]), last], *ports)
        scales = [onnx.tensor("s", onnx.FLOAT, [], struct.pack("<f", scale)), onnx.tensor("z", 2, [], b"\0")]
        codes = onnx.model([onnx.node("Relu", ["x"], ["h"]), onnx.node("QuantizeLinear", ["h", "s", "z"], ["h_QuantizeLinear_Output"], "q"),
                            onnx.node("DequantizeLinear", ["h_QuantizeLinear_Output", "s", "z"], ["h_DequantizeLinear_Output"], "d"),
                            onnx.node("Neg", ["h_DequantizeLinear_Output"], ["y"])], *ports, initializers=scales)
        return self.file("plain.onnx", plain), self.file("codes.onnx", codes)

    def test_a_model_equals_itself_and_its_reference_nearly(self):
        report = json.loads(self.succeeds("compare", TINY, TINY, "--data", self.images(), "--json"))
        self.assertGreater(report["inputs"], 1)
        self.assertTrue(all(c["equal"] for c in report["outputs"] + report["layers"]), report)
        self.assertGreater(len(report["layers"]), 3)
        self.assertEqual(report["worst_layer"], "")
        self.succeeds("compare", TINY, TINY, "--opt-b", "none", "--random", 3, "--min-sqnr", 80, "--min-agreement", 100)

    def test_compare_computes_the_second_as_on_a_machine_that_multiplies_bf16(self):
        words = ("compare", TINY, TINY, "--data", self.images(), "--compute-b", "bf16", "--layer-inputs", 0, "--json")
        output = json.loads(self.succeeds(*words, env={"DUNLIN_BF16": "emulated"}))["outputs"][0]
        self.assertFalse(output["equal"])
        self.assertGreater(output["sqnr_db"], 30)
        self.assertEqual(output["rows_agreed"], output["rows"])

    def test_layers_are_compared_with_what_codes_stand_for(self):
        plain, codes = self.quantised(0.5)
        x = self.file("x.npy", npy_bytes("<f4", (1, 4), struct.pack("<4f", -1, 0.5, 1.1, 3)))
        out, picture = self.folder / "report.json", self.folder / "sqnr.svg"
        text = self.succeeds("compare", plain, codes, "--data", x, "--json", out, "--svg", picture)
        self.assertIn("worst", text)
        report = json.loads(out.read_text())
        (layer,) = report["layers"]
        self.assertEqual((layer["name"], layer["other"]), ("h", "h_DequantizeLinear_Output"))
        self.assertAlmostEqual(layer["max_error"], 0.1, delta=1e-6)
        self.assertAlmostEqual(report["outputs"][0]["sqnr_db"], 10 * math.log10((0.25 + 1.21 + 9) / 0.01), delta=1e-3)
        self.assertEqual(report["outputs"][0]["rows_agreed"], 1)
        titles = [e.text for e in xml.etree.ElementTree.parse(picture).iter("{http://www.w3.org/2000/svg}title")]
        self.assertEqual(len(titles), 1)

    def test_limits_decide_the_exit_code(self):
        plain, codes = self.quantised(2)
        self.succeeds("compare", plain, codes, "--fill", "x=1.5", "--max-error", 0.5)
        for flags in (["--max-error", 0.4], ["--min-sqnr", 60]):
            run = dunlin("compare", plain, codes, "--fill", "x=1.5", *flags)
            self.assertEqual(run.returncode, FAILURE)
            self.assertIn(flags[0].encode(), run.stderr)
            self.assertIn(b"SQNR", run.stdout)  # the report comes all the same

    def test_folders_are_sets_of_inputs(self):
        plain, codes = self.quantised(0.5)
        x = npy_bytes("<f4", (1, 4), struct.pack("<4f", 1, 2, 3, 4))
        (self.folder / "data" / "set").mkdir(parents=True)
        self.file("data/one.npy", x), self.file("data/set/x.npy", x)
        report = json.loads(self.succeeds("compare", plain, codes, "--data", self.folder / "data", "--random", 1, "--json"))
        self.assertEqual(report["inputs"], 3)
        report = json.loads(self.succeeds("compare", plain, codes, "--layer-inputs", 0, "--json"))
        self.assertEqual((report["layers"], report["layer_inputs"]), ([], 0))

    def test_what_does_not_go_together_is_refused(self):
        plain, _ = self.quantised(0.5)
        self.fails(INPUT, "the second model has no input 'image'", "compare", TINY, self.two_inputs())
        self.fails(INPUT, "no such file", "compare", plain, plain, "--data", self.folder / "none")
        self.fails(MODEL, "none.onnx", "compare", plain, self.folder / "none.onnx")

    def two_inputs(self):
        ports = [onnx.value(n, onnx.tensor_type(onnx.FLOAT, [1])) for n in "ab"], [onnx.value("y", onnx.tensor_type(onnx.FLOAT, [1]))]
        return self.file("two.onnx", onnx.model([onnx.node("Add", ["a", "b"], ["y"])], *ports))


class Inspect(Case):
    def test_costs_add_up(self):
        report = json.loads(self.succeeds("inspect", TINY, "--json", "--layers"))
        self.assertEqual(report["inputs"], [{"name": "image", "dtype": "f32", "shape": ["batch", 1, 28, 28],
                                             "optional": False, "sequence": False}])
        self.assertEqual(report["macs"], sum(layer["macs"] for layer in report["layers"]))
        self.assertGreaterEqual(report["arena_bytes"], report["max_live_bytes"])
        self.assertGreaterEqual(report["naive_bytes"], report["arena_bytes"])
        self.assertEqual(report["parameter_bytes"], 4 * report["parameters"])

    def test_macs_follow_the_batch(self):
        macs = [json.loads(self.succeeds("inspect", TINY, "--json", "--shape", f"image={n},1,28,28"))["macs"] for n in (1, 3)]
        self.assertEqual(macs[1], 3 * macs[0])

    def test_text_shows_the_graph(self):
        text = self.succeeds("inspect", TINY, "--text")
        self.assertIn("image", text)
        self.assertIn("Softmax", text)


class Operators(Case):
    def test_a_row_tells_opsets_types_and_path(self):
        header, row = self.succeeds("ops", "MaxUnpool").splitlines()
        self.assertTrue(header.startswith("operator"))
        self.assertIn("9 11 22", row)
        self.assertIn("f32", row)

    def test_json_and_markdown_have_the_same_operators(self):
        rows = json.loads(self.succeeds("ops", "pool", "--json"))
        names = [row["operator"] for row in rows]
        self.assertIn("MaxPool", names)
        self.assertIn("f32", rows[names.index("MaxPool")]["types"])
        text = self.succeeds("ops", "pool", "--markdown")
        self.assertEqual(len(names), sum(line.startswith("| ") for line in text.splitlines()) - text.count("| operator |"))

    def test_an_unknown_name_is_an_error(self):
        self.fails(USAGE, "Nonsense", "ops", "Nonsense")


class Check(Case):
    def test_a_model_that_runs(self):
        text = self.succeeds("check", TINY)
        self.assertIn("It runs.", text)
        report = json.loads(self.succeeds("check", TINY, "--json"))
        self.assertTrue(report["runs"])
        self.assertEqual(report["missing"], [])
        self.assertEqual(report["fast_macs"], report["macs"])
        paths = {row["operator"]: row["paths"] for row in report["operators"]}
        self.assertIn("Conv", paths)
        self.assertEqual(sum(count for row in report["operators"] for count in row["paths"].values()), report["nodes"])

    def test_every_missing_operator_is_listed_with_advice(self):
        x, y = (onnx.value(n, onnx.tensor_type(onnx.FLOAT, [1])) for n in "xy")
        nodes = [onnx.node("Tokenize", ["x"], ["a"], "first", "ai.onnx.contrib"), onnx.node("Nonsense", ["a"], ["b"], "second"),
                 onnx.node("Nonsense", ["b"], ["c"], "third"), onnx.node("Relu", ["c"], ["y"])]
        model = self.file("net.onnx", onnx.model(nodes, [x], [y]))
        result = dunlin("check", model, "--json")
        self.assertEqual(result.returncode, UNSUPPORTED)
        self.assertIn("2 of its operators", result.stderr.decode())
        missing = {m["operator"]: m for m in json.loads(result.stdout)["missing"]}
        self.assertEqual(sorted(missing), ["Nonsense", "ai.onnx.contrib.Tokenize"])
        self.assertEqual(missing["Nonsense"]["nodes"], ["second", "third"])
        self.assertIn("onnxruntime-extensions", missing["ai.onnx.contrib.Tokenize"]["advice"])
        text = dunlin("check", model).stdout.decode()
        self.assertIn("It does not run.", text)
        self.assertIn("first", text)

    def test_what_the_importer_refuses_is_reported_after_the_header(self):
        x, y = (onnx.value(n, onnx.tensor_type(onnx.FLOAT, [1])) for n in "xy")
        model = self.file("net.onnx", onnx.model([onnx.node("Relu", ["x", "x", "x"], ["y"], "bad")], [x], [y]))
        result = dunlin("check", model)
        self.assertEqual(result.returncode, MODEL)
        self.assertIn("'bad'", result.stderr.decode())
        self.assertIn("opset ai.onnx 13", result.stdout.decode())

    def test_all_that_is_wrong_is_told_at_once(self):
        x, y = (onnx.value(n, onnx.tensor_type(onnx.FLOAT, [1])) for n in "xy")
        nodes = [onnx.node("Relu", ["x", "x"], ["a"], "first"), onnx.node("Neg", ["a"], ["b"], "fine"),
                 onnx.node("Add", ["x", "lost"], ["c"], "second"), onnx.node("Sum", ["b", "c"], ["y"])]
        result = dunlin("check", self.file("net.onnx", onnx.model(nodes, [x], [y])), "--json")
        self.assertEqual(result.returncode, MODEL)
        errors = json.loads(result.stdout)["errors"]
        self.assertEqual(len(errors), 2)
        self.assertIn("'first'", errors[0])
        self.assertIn("'second'", errors[1])

    def test_a_model_beyond_a_limit_is_a_wrong_model(self):
        x, y = (onnx.value(n, onnx.tensor_type(onnx.FLOAT, [1])) for n in "xy")
        functions = [onnx.function("f0", ["a"], ["b"], [onnx.node("Relu", ["a"], ["b"])], "f")]
        for i in range(1, 30):
            calls = [onnx.node(f"f{i - 1}", ["a"], ["t"], "one", "f"), onnx.node(f"f{i - 1}", ["t"], ["b"], "two", "f")]
            functions.append(onnx.function(f"f{i}", ["a"], ["b"], calls, "f"))
        model = self.file("net.onnx", onnx.model([onnx.node("f29", ["x"], ["y"], "call", "f")], [x], [y], functions=functions))
        result = dunlin("check", model)
        self.assertEqual(result.returncode, MODEL, result.stderr)
        self.assertIn("'call'", result.stdout.decode())
        self.assertIn("inlining", result.stderr.decode())

    def test_what_no_machine_has_room_for_is_an_error_of_the_run(self):
        x, y = (onnx.value(n, onnx.tensor_type(onnx.FLOAT, [d])) for n, d in (("x", "n"), ("y", 1)))
        axis = onnx.block(1, "axis") + onnx.number(3, 0) + onnx.number(20, 2)
        nodes = []
        for i in range(40):
            last = f"v{i}" if i else "x"
            nodes += [onnx.node("Neg", [last], [f"n{i}"]), onnx.node("Concat", [last, f"n{i}"], [f"v{i + 1}"], attributes=[axis])]
        nodes.append(onnx.node("ReduceMax", ["v40"], ["y"]))
        model = self.file("net.onnx", onnx.model(nodes, [x], [y]))
        for opt in "default", "none":
            self.fails(FAILURE, "memory", "run", model, "--opt", opt, "--shape", "x=4")

    def test_shapes_are_those_asked_for(self):
        report = json.loads(self.succeeds("check", TINY, "--json", "--shape", "image=3,1,28,28"))
        self.assertEqual(report["shapes"], {"image": [3, 1, 28, 28]})

    def test_a_file_that_is_no_model(self):
        self.fails(MODEL, "not an ONNX", "check", self.file("net.onnx", b"nonsense, not protobuf"))


class Simd(Case):
    def test_the_environment_chooses_an_instruction_set(self):
        told = lambda name: subprocess.run([DUNLIN, "bench", TINY, "--json", "--seconds", "0"], capture_output=True, text=True,
                                           env={**os.environ, "DUNLIN_SIMD": name}, check=True)
        best = json.loads(told("").stdout)["simd"]
        self.assertEqual(json.loads(told("SSE4").stdout)["simd"], "SSE4")
        wrong = told("AVX99")
        self.assertEqual(json.loads(wrong.stdout)["simd"], best)
        self.assertIn("AVX99", wrong.stderr)


class Optimize(Case):
    def test_every_pass_is_reported_under_its_stage(self):
        report = json.loads(self.succeeds("optimize", TINY, "--json"))
        for part in ("model", "shapes"):
            passes = report[part]["passes"]
            self.assertEqual(sorted({p["stage"] for p in passes}), ["optimise", "post", "pre"])
            self.assertEqual(passes[-1]["after"], report[part]["after"])
        self.assertLess(report["model"]["after"]["nodes"], report["model"]["before"]["nodes"])
        self.assertGreater(sum(sum(p["rules"].values()) for p in report["model"]["passes"]), 0)
        self.assertGreaterEqual(report["memory"]["arena_bytes"], report["memory"]["max_live_bytes"])

    def test_rules_are_named_when_asked_for(self):
        rules = {rule for p in json.loads(self.succeeds("optimize", TINY, "--json"))["model"]["passes"] for rule in p["rules"]}
        short, long = self.succeeds("optimize", TINY), self.succeeds("optimize", TINY, "--explain")
        for rule in rules:
            self.assertNotIn(rule, short)
            self.assertIn(rule, long)

    def test_a_shape_that_does_not_fit_is_an_error(self):
        self.fails(INPUT, "", "optimize", TINY, "--shape", "image=1,2,28,28")

    def test_a_written_model_answers_the_same(self):
        written = self.folder / "written.onnx"
        report = json.loads(self.succeeds("optimize", TINY, "-o", written, "--opset", 17, "--json"))["written"]
        self.assertEqual((report["opset"], report["bytes"]), (17, written.stat().st_size))
        self.succeeds("run", TINY, "--fill", "image=0.5", "--output-dir", self.folder / "before")
        self.succeeds("run", written, "--fill", "image=0.5", "--output-dir", self.folder / "after")
        before, after = (array.array("f", npy(self.folder / d / "probabilities.npy")[2]) for d in ("before", "after"))
        for a, b in zip(before, after, strict=True):
            self.assertAlmostEqual(a, b, places=5)

    def test_weights_can_lie_beside_the_written_model(self):
        self.succeeds("optimize", TINY, "-o", self.folder / "written.onnx", "--external-data", "always")
        self.assertTrue((self.folder / "written.onnx.data").exists())
        self.succeeds("run", self.folder / "written.onnx", "--fill", "image=0.5")

    def test_a_model_is_not_written_over_itself(self):
        path = self.file("m.onnx", TINY.read_bytes())
        before = path.read_bytes()
        self.fails(FAILURE, "give another file", "optimize", path, "-o", path)
        self.assertEqual(path.read_bytes(), before)


class Models(Case):
    def setUp(self):
        super().setUp()
        self.bin = self.folder / "bin"
        self.bin.mkdir()
        self.repository = self.folder / "models"
        self.manifest = self.file("manifest.json", json.dumps({"models": [{
            "name": "net", "package": "pack@1.0.0", "license": "MIT", "about": "a net", "input": "none",
            "files": [{"from": "net.onnx", "to": "1/model.onnx", "bytes": 5,
                       "sha256": hashlib.sha256(b"hello").hexdigest()}]}]}))

    def npm(self, script):
        path = self.bin / "npm"
        path.write_text("#!/bin/sh\n" + script)
        path.chmod(0o755)

    def words(self):
        return ["models", "fetch", "--all", "--dir", self.repository, "--manifest", self.manifest]

    def env(self):
        return {"PATH": f"{self.bin}:{os.environ['PATH']}"}

    def files(self):
        return sorted(str(p.relative_to(self.repository)) for p in self.repository.rglob("*") if p.is_file())

    PACKS = 'cd "$4" && mkdir package && printf %s > package/net.onnx && tar -czf pack.tgz package\n'

    def test_fetch_installs_once_and_then_skips(self):
        self.npm(self.PACKS % "hello")
        self.assertIn("checksum right", self.succeeds(*self.words(), env=self.env()))
        self.assertEqual(self.files(), ["net/1/model.onnx"])
        self.npm("exit 1\n")
        self.assertIn("here already", self.succeeds(*self.words(), env=self.env()))

    def test_a_damaged_model_is_fetched_again(self):
        self.npm(self.PACKS % "hello")
        self.succeeds(*self.words(), env=self.env())
        (self.repository / "net/1/model.onnx").write_bytes(b"jello")
        self.succeeds(*self.words(), env=self.env())
        self.assertEqual((self.repository / "net/1/model.onnx").read_bytes(), b"hello")

    def test_a_wrong_checksum_installs_nothing(self):
        self.npm(self.PACKS % "jello")
        self.fails(SERVER, "nothing was installed", *self.words(), env=self.env())
        self.assertEqual(self.files(), [])

    def test_without_network_the_error_says_what_to_do(self):
        self.npm("echo 'npm ERR! network getaddrinfo ENOTFOUND' >&2; exit 1\n")
        self.fails(SERVER, "check the network", *self.words(), env=self.env())
        self.assertEqual(self.files(), [])

    def test_a_folder_that_cannot_be_written_is_a_failure(self):
        self.npm(self.PACKS % "hello")
        self.fails(FAILURE, "cannot make the folder", *self.words()[:4], "/dev/null/x", *self.words()[5:], env=self.env())

    def test_without_npm_the_error_says_what_to_install(self):
        self.fails(SERVER, "apt-get install npm", *self.words(), env={"PATH": str(self.bin)})

    def test_an_interrupt_leaves_nothing_half_written(self):
        self.npm(f'cd "$4" && echo half > half.tgz && touch {self.folder}/started && exec sleep 60\n')
        process = subprocess.Popen([DUNLIN, *map(str, self.words())], env={**os.environ, **self.env()},
                                   stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        deadline = time.monotonic() + 30
        while not (self.folder / "started").exists() and time.monotonic() < deadline:
            time.sleep(0.02)
        process.send_signal(signal.SIGINT)
        _, error = process.communicate(timeout=30)
        self.assertEqual(process.returncode, INTERRUPTED)
        self.assertEqual(error, b"dunlin: interrupted\n")
        self.assertEqual(self.files(), [])

    def test_list_tells_what_is_here(self):
        self.npm(self.PACKS % "hello")
        listing = ["models", "list", "--json", "--dir", self.repository, "--manifest", self.manifest]
        self.assertFalse(json.loads(self.succeeds(*listing))[0]["present"])
        self.succeeds(*self.words(), env=self.env())
        self.assertTrue(json.loads(self.succeeds(*listing))[0]["present"])
        self.assertIn("ppocr_det", self.succeeds("models", "list", cwd=self.folder))


class Infer(Case):
    """Against the real server on a free port; the server's own behaviour is tested elsewhere."""

    @classmethod
    def setUpClass(cls):
        cls.repository = tempfile.TemporaryDirectory()
        version = pathlib.Path(cls.repository.name) / "tiny_fashion/1"
        version.mkdir(parents=True)
        (version / "model.onnx").write_bytes(TINY.read_bytes())
        cls.server = subprocess.Popen([DUNLIN, "serve", "--model-repository", cls.repository.name, "--http-address",
                                       "127.0.0.1", "--http-port", "0", "--allow-metrics", "false", "--log-format", "json"],
                                      stderr=subprocess.PIPE)
        cls.url = None
        for line in cls.server.stderr:
            text = line.decode()
            if '"http_port"' in text:
                cls.url = f"http://127.0.0.1:{json.loads(text)['http_port']}"
                break
        cls.drain = threading.Thread(target=cls.server.stderr.read)
        cls.drain.start()

    @classmethod
    def tearDownClass(cls):
        cls.server.send_signal(signal.SIGTERM)
        cls.code = cls.server.wait(timeout=60)
        cls.drain.join()
        cls.server.stderr.close()
        cls.repository.cleanup()
        assert cls.code == OK, f"the server ended with {cls.code}"

    def test_says_what_run_says(self):
        words = ["--input", ASSETS / "tiny_fashion_boot.png", "--top-k", 3, "--labels", ASSETS / "tiny_fashion_labels.txt"]
        self.assertEqual(self.succeeds("infer", self.url, "tiny_fashion", *words), self.succeeds("run", TINY, *words))

    def test_writes_the_same_files_as_run(self):
        for name, words in (("a", ["infer", self.url, "tiny_fashion"]), ("b", ["run", TINY])):
            self.succeeds(*words, "--shape", "2,1,28,28", "--seed", 3, "--output-dir", self.folder / name)
        served, ran = (npy(self.folder / name / "probabilities.npy") for name in "ab")
        self.assertEqual(served[:2], ran[:2])
        for a, b in zip(array.array("f", served[2]), array.array("f", ran[2])):
            self.assertAlmostEqual(a, b, places=6)

    def test_the_servers_refusals_are_server_errors(self):
        self.fails(SERVER, "unknown model: 'nope'", "infer", self.url, "nope")
        self.fails(SERVER, "version 7", "infer", self.url, "tiny_fashion", "--model-version", "7")
        self.fails(SERVER, "unexpected shape", "infer", self.url, "tiny_fashion", "--shape", "1,1,28,27")

    def test_files_that_do_not_fit_are_input_errors_before_anything_is_sent(self):
        self.fails(INPUT, "No such file", "infer", self.url, "tiny_fashion", "--input", "/no/such.npy")

    def test_an_absent_server_and_a_wrong_url_say_what_to_do(self):
        self.fails(SERVER, "is the server running?", "infer", "http://127.0.0.1:1", "tiny_fashion")
        self.fails(USAGE, "http://localhost:8000", "infer", "http://", "tiny_fashion")


class Serve(Case):
    def test_a_repository_that_is_not_there_is_a_server_error(self):
        error = dunlin("serve", "--model-repository", "/no/such/folder", "--http-port", 0, "--grpc-port", 0, "--metrics-port", 0)
        self.assertEqual(error.returncode, SERVER)
        self.assertIn("/no/such/folder", error.stderr.decode().splitlines()[-1])

    def test_a_repository_must_be_named(self):
        self.fails(USAGE, "--model-repository is required", "serve")


if __name__ == "__main__":
    DUNLIN = os.path.abspath(sys.argv.pop(1))
    unittest.main()
