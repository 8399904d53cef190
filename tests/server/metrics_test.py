#!/usr/bin/env python3
"""The metrics page and the statistics route of the real process, read as Prometheus and Triton's clients read them.

    tests/server/metrics_test.py DUNLIN [unittest options]
"""

import concurrent.futures
import json
import math
import re
import signal
import sys
import time
import unittest

import server_test
from server_test import Case, add_model, request_json

SAMPLE = re.compile(r'^([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{(.*)\})? (\S+)$')
LABEL = re.compile(r'([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\\n]|\\["\\n])*)"(?:,|$)')
SUFFIXES = {"histogram": ("_bucket", "_sum", "_count"), "summary": ("", "_sum", "_count")}


def parse(text):
    """{family: (type, {(name, labels): value})}; raises ValueError for what the text format does not allow."""
    families, current, seen_help = {}, None, set()
    if not text.endswith("\n"):
        raise ValueError("the last line has no end")
    for line in text[:-1].split("\n"):
        if line.startswith("# HELP "):
            name = line.split(" ", 3)[2]
            if name in seen_help:
                raise ValueError(f"second HELP of {name}")
            seen_help.add(name)
            continue
        if line.startswith("# TYPE "):
            _, _, name, kind = line.split(" ")
            if name in families or kind not in ("counter", "gauge", "histogram", "summary"):
                raise ValueError(line)
            current = name
            families[name] = (kind, {})
            continue
        match = SAMPLE.match(line)
        if not match:
            raise ValueError(f"no sample: {line!r}")
        name, labels, value = match.groups()
        pairs, at = [], 0
        while labels and at < len(labels):
            label = LABEL.match(labels, at)
            if not label:
                raise ValueError(f"bad labels: {line!r}")
            pairs.append((label.group(1), label.group(2)))
            at = label.end()
        if len({k for k, _ in pairs}) != len(pairs):
            raise ValueError(f"a label twice: {line!r}")
        kind, samples = families[current] if current else (None, None)
        if kind is None or name not in [current + s for s in SUFFIXES.get(kind, ("",))]:
            raise ValueError(f"{name} does not belong to {current}")
        key = (name, frozenset(pairs))
        if key in samples:
            raise ValueError(f"a series twice: {line!r}")
        samples[key] = float(value)
    for name, (kind, samples) in families.items():
        if kind == "histogram":
            check_histogram(name, samples)
        if kind == "counter" and any(v < 0 or math.isnan(v) for v in samples.values()):
            raise ValueError(f"{name} is no counter")
    return families


def check_histogram(name, samples):
    series = {}
    for (sample, labels), value in samples.items():
        rest = frozenset(l for l in labels if l[0] != "le")
        series.setdefault(rest, {})[sample[len(name):], dict(labels).get("le")] = value
    for rest, values in series.items():
        bounds = sorted((float(le), v) for (suffix, le), v in values.items() if suffix == "_bucket")
        counts = [v for _, v in bounds]
        if counts != sorted(counts):
            raise ValueError(f"{name} {set(rest)}: buckets are not cumulative")
        if bounds[-1][0] != math.inf or bounds[-1][1] != values[("_count", None)]:
            raise ValueError(f"{name} {set(rest)}: the last bucket is not +Inf with the count")


class Metrics(Case):
    def page(self, server):
        status, headers, text = server.ask("GET", "/metrics", port=server.metrics)
        self.assertEqual((status, headers["content-type"]), (200, "text/plain; charset=utf-8"))
        return parse(text.decode())

    def value(self, page, name, family=None, **labels):
        samples = page[family or name][1]
        found = [v for (n, have), v in samples.items() if n == name and labels.items() <= dict(have).items()]
        self.assertEqual(len(found), 1, (name, labels, samples))
        return found[0]

    def infer(self, server, model="double", body=None, status=200):
        answer = server.ask("POST", f"/v2/models/{model}/infer", body or request_json())
        self.assertEqual(answer[0], status, answer)

    def test_every_family_of_the_protocol(self):
        self.write("double/1/model.onnx", add_model())
        self.write("double/config.pbtxt", 'max_batch_size: 8 metric_tags { key: "team" value: "a \\"b\\"" }')
        server = self.serve()
        for _ in range(3):
            self.infer(server, body=request_json([1.0] * 8, (2, 4)))
        self.infer(server, body=request_json([1.0] * 5, (1, 5)), status=400)
        page = self.page(server)
        labels = {"model": "double", "version": "1", "team": 'a \\"b\\"'}
        value = lambda name, **more: self.value(page, name, **labels, **more)
        self.assertEqual(value("nv_inference_request_success"), 3)
        self.assertEqual(value("nv_inference_count"), 6)
        self.assertIn(value("nv_inference_exec_count"), (1, 2, 3))
        reasons = {r: value("nv_inference_request_failure", reason=r) for r in ("REJECTED", "CANCELED", "BACKEND", "OTHER")}
        self.assertEqual(sum(reasons.values()), 1, reasons)
        self.assertEqual(reasons["OTHER"], 1)
        total = value("nv_inference_request_duration_us")
        parts = sum(value(f"nv_inference_{p}_duration_us") for p in ("queue", "compute_input", "compute_infer", "compute_output"))
        self.assertGreater(total, 0)
        self.assertLess(parts, total * 1.01)
        self.assertEqual(value("nv_inference_pending_request_count"), 0)
        self.assertGreater(value("nv_model_load_duration_secs"), 0)
        for family in ("dunlin_request_duration_seconds", "dunlin_queue_duration_seconds", "dunlin_compute_duration_seconds"):
            self.assertEqual(page[family][0], "histogram")
            self.assertEqual(self.value(page, family + "_count", family, **labels), 3)
        seconds = self.value(page, "dunlin_request_duration_seconds_sum", "dunlin_request_duration_seconds", **labels)
        self.assertAlmostEqual(seconds, total / 1e6, delta=1e-6)
        for name in ("nv_cpu_memory_total_bytes", "nv_cpu_memory_used_bytes", "process_resident_memory_bytes"):
            self.assertGreater(self.value(page, name), 1 << 20)
        self.assertTrue(0 <= self.value(page, "nv_cpu_utilization") <= 1)
        self.assertEqual(page["process_cpu_seconds_total"][0], "counter")
        absent = [f for f in page if "gpu" in f or "pinned" in f or "summary" in f or "first_response" in f]
        self.assertEqual(absent, [])

    def test_what_has_to_be_asked_for(self):
        self.write("double/1/model.onnx", add_model())
        server = self.serve("--metrics-config", "counter_latencies=false", "--metrics-config", "histogram_latencies=true",
                            "--metrics-config", "summary_latencies=true",
                            "--metrics-config", "summary_quantiles=0.5:0.05,0.99:0.001", "--allow-cpu-metrics=false")
        for _ in range(10):
            self.infer(server)
        page = self.page(server)
        self.assertEqual([f for f in page if f.endswith("_duration_us") or f.startswith("nv_cpu")], [])
        first = "nv_inference_first_response_histogram_ms"
        self.assertEqual(self.value(page, first + "_bucket", first, le="5000"), 10)
        for stage in ("request", "queue", "compute_input", "compute_infer", "compute_output"):
            family = f"nv_inference_{stage}_summary_us"
            self.assertEqual(page[family][0], "summary")
            self.assertEqual(self.value(page, family + "_count", family), 10)
            half, most = (self.value(page, family, quantile=q) for q in ("0.5", "0.99"))
            self.assertLessEqual(half, most)
        for flag in ("counter_latencies=maybe", "colour=red", "summary_quantiles=7:1"):
            bad = self.serve("--metrics-config", flag, wait=False)
            self.assertNotEqual(bad.process.wait(30), 0, flag)

    def test_scrapes_under_load_are_whole_and_never_run_backwards(self):
        self.write("double/1/model.onnx", add_model())
        server = self.serve()
        end = time.monotonic() + 3

        def client(_):
            connection, done = server.connect(), 0
            while time.monotonic() < end:
                connection.request("POST", "/v2/models/double/infer", request_json())
                connection.getresponse().read()
                done += 1
            return done

        with concurrent.futures.ThreadPoolExecutor(4) as pool:
            clients = [pool.submit(client, i) for i in range(4)]
            before = 0
            while time.monotonic() < end:
                page = self.page(server)
                now = self.value(page, "nv_inference_request_success", model="double")
                self.assertGreaterEqual(now, before)
                before = now
            sent = sum(c.result() for c in clients)
        page = self.page(server)
        self.assertEqual(self.value(page, "nv_inference_request_success", model="double"), sent)
        stats = json.loads(server.ask("GET", "/v2/models/double/stats")[2])["model_stats"][0]
        self.assertEqual(stats["inference_stats"]["success"]["count"], sent)
        self.assertEqual(stats["inference_count"], sent)
        self.assertEqual(sum(b["compute_infer"]["count"] for b in stats["batch_stats"]), stats["execution_count"])
        self.assertEqual(stats["inference_stats"]["queue"]["count"], sent)
        self.assertLess(abs(stats["last_inference"] / 1e3 - time.time()), 60)
        self.assertEqual(stats["memory_usage"][0]["type"], "CPU")
        self.assertEqual(server.stop(), 0)

    def test_the_log_goes_to_a_file_that_can_be_rotated(self):
        self.write("double/1/model.onnx", add_model())
        log = self.repository.parent / (self.repository.name + ".log")
        self.addCleanup(lambda: [p.unlink(missing_ok=True) for p in (log, log.with_suffix(".old"))])
        server = self.serve("--log-file", str(log), wait=False)
        self.eventually(lambda: log.exists() and "server ready" in log.read_text())
        log.rename(log.with_suffix(".old"))
        server.process.send_signal(signal.SIGHUP)
        self.eventually(lambda: log.exists() and "reloaded" in log.read_text())
        self.assertEqual(server.stop(), 0)
        self.assertIn("stopped", log.read_text())
        self.assertNotIn("stopped", log.with_suffix(".old").read_text())

    def eventually(self, condition, seconds=20):
        end = time.monotonic() + seconds
        while not condition():
            self.assertLess(time.monotonic(), end, "did not happen in time")
            time.sleep(0.05)


class Parser(unittest.TestCase):
    """The parser above refuses what it is there to refuse."""

    def test_bad_pages(self):
        good = '# HELP a x\n# TYPE a counter\na{b="c"} 1\n'
        parse(good)
        histogram = '# TYPE h histogram\nh_bucket{le="1"} %d\nh_bucket{le="%s"} 2\nh_sum 1\nh_count 2\n'
        parse(histogram % (1, "+Inf"))
        for bad in (good[:-1], good + good, good + 'a{b="c"} 2\n', good + "b 1\n", 'a{b="c"} 1\n', good + "a{b=c} 1\n",
                    good + 'a{b="\n"} 1\n', histogram % (3, "+Inf"), histogram % (1, "2")):
            with self.assertRaises(ValueError, msg=bad):
                parse(bad)


if __name__ == "__main__":
    server_test.DUNLIN = sys.argv[1]
    unittest.main(argv=[sys.argv[0], *sys.argv[2:]])
