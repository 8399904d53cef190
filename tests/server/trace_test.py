#!/usr/bin/env python3
"""Traces, log settings and the access log of the real process.

    tests/server/trace_test.py DUNLIN [unittest options]
"""

import http.server
import json
import pathlib
import re
import signal
import sys
import tempfile
import threading
import time
import unittest

import server_test
from server_test import Case, add_model, request_json

STAGES = ["HTTP_RECV_START", "REQUEST_START", "QUEUE_START", "COMPUTE_START", "COMPUTE_INPUT_END", "COMPUTE_OUTPUT_START",
          "COMPUTE_END", "REQUEST_END", "HTTP_SEND_START", "HTTP_SEND_END"]
TRACE_ID, SPAN_ID = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


class Collector:
    """An OTLP/HTTP endpoint that keeps what it is sent."""

    def __init__(self, delay=0.0):
        self.spans, self.resources, self.requests = [], [], 0
        collector = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self):
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                time.sleep(delay)
                assert self.path == "/v1/traces" and self.headers["Content-Type"] == "application/json"
                collector.requests += 1
                for resource in body["resourceSpans"]:
                    collector.resources.append(resource["resource"]["attributes"])
                    for scope in resource["scopeSpans"]:
                        collector.spans += scope["spans"]
                self.send_response(200)
                self.send_header("Content-Length", "2")
                self.end_headers()
                self.wfile.write(b"{}")

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/v1/traces"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def stop(self):
        self.server.shutdown()
        self.server.server_close()


class TraceCase(Case):
    def setUp(self):
        super().setUp()
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.out = pathlib.Path(folder.name)
        self.write("double/1/model.onnx", add_model())
        self.write("other/1/model.onnx", add_model())

    def infer(self, server, model="double", headers=None, **more):
        answer = server.ask("POST", f"/v2/models/{model}/infer", request_json(**more), headers)
        self.assertEqual(answer[0], 200, answer)

    def eventually(self, condition, seconds=20):
        end = time.monotonic() + seconds
        while not condition():
            self.assertLess(time.monotonic(), end, "did not happen in time")
            time.sleep(0.05)

    def settings(self, server, change=None, model=None, status=200):
        path = f"/v2/models/{model}/trace/setting" if model else "/v2/trace/setting"
        answer = server.ask("POST" if change is not None else "GET", path, json.dumps(change) if change is not None else None)
        self.assertEqual(answer[0], status, answer)
        return json.loads(answer[2])


class Files(TraceCase):
    def read(self, name="trace.json"):
        """{id: (head, {stage: ns}, tensors)} of a trace file, which is whole JSON at any time."""
        traces = {}
        for entry in json.loads((self.out / name).read_text()):
            head, stages, tensors = traces.setdefault(entry["id"], ({}, {}, []))
            if "model_name" in entry:
                head.update(entry)
            for stamp in entry.get("timestamps", []):
                stages[stamp["name"]] = stamp["ns"]
            if "tensor" in entry:
                tensors.append((entry["activity"], entry["tensor"]))
        return traces

    def test_stages_in_order_and_flushed_at_the_end(self):
        server = self.serve("--trace-config", f"triton,file={self.out}/trace.json", "--trace-config", "level=TIMESTAMPS",
                            "--trace-config", "rate=2")
        for i in range(6):
            self.infer(server, id=f"r{i}")
        self.assertEqual(server.stop(), 0)
        traces = self.read()
        self.assertEqual([head["request_id"] for head, _, _ in traces.values()], ["r1", "r3", "r5"])
        for head, stages, _ in traces.values():
            self.assertEqual((head["model_name"], head["model_version"]), ("double", 1))
            present = [stages[s] for s in STAGES]  # all of them
            self.assertEqual(present, sorted(present), stages)

    def test_settings_global_and_per_model(self):
        server = self.serve("--trace-config", f"triton,file={self.out}/trace.json")
        initial = {"trace_level": ["OFF"], "trace_rate": "1000", "trace_count": "-1", "log_frequency": "0",
                   "trace_file": f"{self.out}/trace.json", "trace_mode": "triton"}
        self.assertEqual(self.settings(server), initial)
        self.assertEqual(self.settings(server, model="double"), initial)
        changed = self.settings(server, {"trace_level": ["TIMESTAMPS", "TENSORS"], "trace_rate": "1", "trace_count": "2"}, "double")
        self.assertEqual(changed, {**initial, "trace_level": ["TIMESTAMPS", "TENSORS"], "trace_rate": "1", "trace_count": "2"})
        for _ in range(4):
            self.infer(server)
            self.infer(server, "other")
        self.assertEqual(self.settings(server, model="double")["trace_count"], "0")
        self.assertEqual(self.settings(server, model="other"), initial)
        self.assertEqual(self.settings(server, {k: None for k in ("trace_level", "trace_rate", "trace_count")}, "double"), initial)
        error = self.settings(server, {"trace_file": "x"}, status=501)["error"]
        self.assertEqual(error, "trace file location can not be updated through network protocol")
        self.assertIn("Unable to parse 'trace_rate', got: x", self.settings(server, {"trace_rate": "x"}, status=400)["error"])
        self.settings(server, model="none", status=400)
        self.settings(server, {"trace_rate": "1"}, model="none", status=400)
        self.eventually(lambda: (self.out / "trace.json").exists() and len(self.read()) == 2)
        for head, _, tensors in self.read().values():
            self.assertEqual(head["model_name"], "double")
            kinds = {kind: tensor for kind, tensor in tensors}
            self.assertEqual(kinds["TENSOR_QUEUE_INPUT"], {"name": "x", "data": "1,2,3,4", "shape": "1,4", "dtype": "FP32"})
            self.assertEqual(kinds["TENSOR_BACKEND_OUTPUT"]["data"], "2,4,6,8")
        self.assertEqual(server.stop(), 0)

    def test_log_frequency_numbers_the_files(self):
        server = self.serve("--trace-config", f"triton,file={self.out}/t", "--trace-config", "triton,log-frequency=2",
                            "--trace-config", "level=TIMESTAMPS", "--trace-config", "rate=1")
        for _ in range(5):
            self.infer(server)
        self.assertEqual(server.stop(), 0)
        self.assertEqual([len(self.read(f"t.{i}")) for i in range(3)], [2, 2, 1])
        self.assertFalse((self.out / "t").exists())

    def test_bad_flags_end_the_process(self):
        for flag in ("level=TIMESTAMPS", "rate=0", "mode=other", "triton,colour=1", "mode=opentelemetry"):
            flags = ["--trace-config", flag]
            if flag.startswith("mode=open"):
                flags += ["--trace-config", "opentelemetry,url=https://x/"]
            self.assertNotEqual(self.serve(*flags, wait=False).process.wait(30), 0, flag)


class OpenTelemetry(TraceCase):
    def start(self, url, *more):
        flags = ["mode=opentelemetry", "level=TIMESTAMPS", f"opentelemetry,url={url}", "opentelemetry,bsp_schedule_delay=100",
                 "opentelemetry,resource=service.name=birds", *more]
        return self.serve(*[f for flag in flags for f in ("--trace-config", flag)])

    def test_spans_reach_a_collector(self):
        collector = Collector()
        self.addCleanup(collector.stop)
        server = self.start(collector.url, "rate=1000")
        parent = lambda flag: {"traceparent": f"00-{TRACE_ID}-{SPAN_ID}-{flag}"}
        self.infer(server, headers=parent("00"))
        self.infer(server, headers={"traceparent": "nonsense"})
        self.infer(server, headers=parent("01"), id="42")
        self.eventually(lambda: len(collector.spans) >= 3)
        self.assertEqual(server.stop(), 0)
        spans = {s["name"]: s for s in collector.spans}
        self.assertEqual(sorted(spans), ["InferRequest", "compute", "double"])
        self.assertEqual(len(collector.spans), 3)
        root, model, compute = spans["InferRequest"], spans["double"], spans["compute"]
        self.assertEqual({s["traceId"] for s in collector.spans}, {TRACE_ID})
        self.assertEqual(root["parentSpanId"], SPAN_ID)
        self.assertEqual(model["parentSpanId"], root["spanId"])
        self.assertEqual(compute["parentSpanId"], model["spanId"])
        self.assertEqual(len({s["spanId"] for s in collector.spans}), 3)
        for inner, outer in ((model, root), (compute, model)):
            self.assertLessEqual(int(outer["startTimeUnixNano"]), int(inner["startTimeUnixNano"]))
            self.assertGreaterEqual(int(outer["endTimeUnixNano"]), int(inner["endTimeUnixNano"]))
        self.assertLess(abs(int(root["startTimeUnixNano"]) / 1e9 - time.time()), 120)
        attributes = {a["key"]: a["value"] for a in model["attributes"]}
        self.assertEqual(attributes["triton.model_version"], {"intValue": "1"})
        self.assertEqual(attributes["triton.trace_request_id"], {"stringValue": "42"})
        self.assertIn({"key": "service.name", "value": {"stringValue": "birds"}}, collector.resources[0])
        self.assertIn("COMPUTE_START", [e["name"] for e in compute["events"]])

    def test_a_collector_that_hangs_or_is_gone_slows_nobody(self):
        collector = Collector(delay=30)
        server = self.start(collector.url, "rate=1", "opentelemetry,bsp_max_queue_size=10", "opentelemetry,bsp_max_export_batch_size=5")
        start = time.monotonic()
        connection = server.connect()
        for _ in range(200):
            connection.request("POST", "/v2/models/double/infer", request_json())
            self.assertEqual(connection.getresponse().read()[:1], b"{")
        self.assertLess(time.monotonic() - start, 15)
        page = server.ask("GET", "/metrics", port=server.metrics)[2].decode()
        dropped = int(float(re.search(r"(?m)^dunlin_traces_dropped_total (\S+)$", page)[1]))
        self.assertGreaterEqual(dropped, 150)
        collector.stop()
        self.assertEqual(server.stop(), 0)


class Logs(TraceCase):
    def log_settings(self, server, change=None, status=200):
        answer = server.ask("POST" if change else "GET", "/v2/logging", json.dumps(change) if change else None)
        self.assertEqual(answer[0], status, answer)
        return json.loads(answer[2])

    def test_the_logging_extension(self):
        log = self.out / "log"
        server = self.serve("--log-file", str(log), "--log-format", "default", wait=False)
        self.eventually(lambda: log.exists() and "server ready" in log.read_text())
        text = log.read_text()
        self.assertRegex(text, r"(?m)^I\d{4} \d\d:\d\d:\d\d\.\d{6} \d+ server ready ")
        server.http = int(re.search(r"http listening .*port=(\d+)", text)[1])
        initial = {"log_file": str(log), "log_info": True, "log_warning": True, "log_error": True, "log_verbose_level": 0,
                   "log_format": "default"}
        self.assertEqual(self.log_settings(server), initial)
        change = {"log_info": False, "log_verbose_level": 1, "log_format": "ISO8601"}
        self.assertEqual(self.log_settings(server, change), {**initial, **change})
        self.assertEqual(self.log_settings(server), {**initial, **change})
        error = self.log_settings(server, {"log_file": "x", "log_error": False}, status=501)["error"]
        self.assertEqual(error, "log file location can not be updated through network protocol")
        self.assertTrue(self.log_settings(server)["log_error"])
        self.log_settings(server, {"log_format": "fancy"}, status=400)
        self.log_settings(server, {"log_info": "yes"}, status=400)
        server.process.send_signal(signal.SIGTERM)
        self.assertEqual(server.process.wait(30), 0)
        self.assertNotIn("stopped", log.read_text())  # log_info is off

    def test_the_access_log(self):
        log = self.out / "access"
        server = self.serve("--access-log", str(log), "--trace-config", f"triton,file={self.out}/t", "--trace-config",
                            "level=TIMESTAMPS", "--trace-config", "rate=1")
        self.infer(server, id="a b\nc")
        self.assertEqual(server.ask("GET", "/v2/models/none")[0], 404)
        self.eventually(lambda: log.exists() and log.read_text().count("\n") == 2)
        first, second = log.read_text().splitlines()
        body = request_json(id="a b\nc")
        self.assertRegex(first, r"^time=\S+Z peer=127\.0\.0\.1:\d+ method=POST path=/v2/models/double/infer status=200 "
                         rf'bytes_in={len(body)} bytes_out=\d+ us=\d+\.\d id="a b\\nc" trace=[0-9a-f]{{32}}$')
        self.assertIn("method=GET path=/v2/models/none status=404 bytes_in=0 ", second)
        log.rename(self.out / "old")
        server.process.send_signal(signal.SIGHUP)
        self.eventually(lambda: log.exists())
        self.infer(server)
        self.eventually(lambda: log.read_text().count("\n") == 1)
        self.assertEqual(server.stop(), 0)


if __name__ == "__main__":
    server_test.DUNLIN = sys.argv[1]
    unittest.main(argv=[sys.argv[0], *sys.argv[2:]])
