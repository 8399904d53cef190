#!/usr/bin/env python3
"""The server as its clients meet it: the real process on loopback, good requests and bad ones, load, signals.

    tests/server/server_test.py DUNLIN [unittest options]
"""

import concurrent.futures
import gzip
import http.client
import json
import pathlib
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
import unittest
import urllib.parse

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests" / "cli"))
import onnx_bytes as onnx  # noqa: E402

TINY = ROOT / "assets" / "tiny_fashion.onnx"
DUNLIN = None
HOST = "127.0.0.1"


def add_model(dims=("N", 4), op="Add"):
    """y = x op x, or a larger computation of the same form."""
    port = [onnx.value(name, onnx.tensor_type(onnx.FLOAT, list(dims))) for name in ("x", "y")]
    return onnx.model([onnx.node(op, ["x", "x"], ["y"])], port[:1], port[1:])


def request_json(values=(1.0, 2.0, 3.0, 4.0), shape=(1, 4), **more):
    tensor = {"name": "x", "shape": list(shape), "datatype": "FP32", "data": list(values)}
    return json.dumps({"inputs": [tensor], **more})


class Server:
    """A `dunlin serve` process on ports the system chose."""

    def __init__(self, repository, *flags, wait=True):
        command = [DUNLIN, "serve", "--model-repository", str(repository), "--http-port", "0"]
        command += ["--metrics-port", "0", "--http-address", HOST, "--grpc-address", HOST]
        command += [] if "--grpc-port" in flags else ["--grpc-port", "0"]
        command += [*flags] if "--log-format" in flags else ["--log-format", "json", *flags]
        self.process = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL)
        self.lines = []
        self.http = self.metrics = self.grpc = None
        self.events = threading.Condition()
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()
        if wait:
            self.wait_for("server ready")

    def _read(self):
        for line in self.process.stderr:
            # Every line is one JSON object, but for the command line's own last word.
            event = json.loads(line) if line.startswith(b"{") else {"event": "plain text", "error": line.decode()}
            with self.events:
                self.lines.append(event)
                if event["event"] == "http listening":
                    self.http = event["port"]
                if event["event"] == "metrics listening":
                    self.metrics = event["port"]
                if event["event"] == "grpc listening":
                    self.grpc = event["port"]
                self.events.notify_all()
        with self.events:
            self.lines.append({"event": "end of log"})
            self.events.notify_all()

    def wait_for(self, event, seconds=60):
        with self.events:
            found = self.events.wait_for(
                lambda: any(l["event"] in (event, "end of log") for l in self.lines), seconds
            )
        assert found and any(l["event"] == event for l in self.lines), (event, self.lines[-5:])

    def connect(self, timeout=30):
        return http.client.HTTPConnection(HOST, self.http, timeout=timeout)

    def ask(self, method, path, body=None, headers=None, port=None):
        """Status, headers, body of one request on a connection of its own."""
        connection = http.client.HTTPConnection(HOST, port or self.http, timeout=30)
        try:
            connection.request(method, path, body, headers or {})
            reply = connection.getresponse()
            return reply.status, {k.lower(): v for k, v in reply.getheaders()}, reply.read()
        finally:
            connection.close()

    def raw(self, data, timeout=10):
        """All bytes the server sends for these bytes."""
        with socket.create_connection((HOST, self.http), timeout=timeout) as s:
            s.sendall(data)
            received = b""
            try:
                while piece := s.recv(65536):
                    received += piece
                    head, _, body = received.partition(b"\r\n\r\n")
                    length = next((int(l[15:]) for l in head.split(b"\r\n") if l.lower().startswith(b"content-length:")), None)
                    if length is not None and len(body) >= length:
                        break
            except socket.timeout:
                pass
            return received

    def rss(self):
        for line in pathlib.Path(f"/proc/{self.process.pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) * 1024
        return 0

    def stop(self, seconds=30):
        """SIGTERM; the exit code."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(seconds)
        finally:
            self.kill()

    def kill(self):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self.reader.join(5)
        self.process.stderr.close()


class Case(unittest.TestCase):
    maxDiff = None

    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.repository = pathlib.Path(folder.name)

    def write(self, name, content):
        path = self.repository / name
        path.parent.mkdir(parents=True, exist_ok=True)
        # As a careful user would: whole files appear at once.
        part = path.with_name(path.name + ".part")
        part.write_bytes(content if isinstance(content, bytes) else content.encode())
        part.rename(path)

    def serve(self, *flags, **options):
        server = Server(self.repository, *flags, **options)
        self.addCleanup(server.kill)
        return server

    def assertError(self, answer, status, message):
        self.assertEqual(answer[0], status, answer)
        self.assertIn(message, json.loads(answer[2])["error"])


class Routes(Case):
    @classmethod
    def setUpClass(cls):
        folder = tempfile.TemporaryDirectory()
        cls.addClassCleanup(folder.cleanup)
        base = pathlib.Path(folder.name)
        for name in ("double", "a name+ü"):
            (base / name / "1").mkdir(parents=True)
            (base / name / "1" / "model.onnx").write_bytes(add_model())
        (base / "tiny" / "3").mkdir(parents=True)
        shutil.copy(TINY, base / "tiny" / "3" / "model.onnx")
        cls.server = Server(base)
        cls.addClassCleanup(cls.server.kill)

    def get(self, path, status=200):
        answer = self.server.ask("GET", path)
        self.assertEqual(answer[0], status, answer)
        return json.loads(answer[2]) if answer[2] else None

    def test_server_and_health(self):
        self.assertEqual(self.get("/v2")["name"], "dunlin")
        self.assertIn("binary_tensor_data", self.get("/v2")["extensions"])
        self.assertIsNone(self.get("/v2/health/live"))
        self.assertIsNone(self.get("/v2/health/ready"))

    def test_model_metadata_config_and_ready(self):
        meta = self.get("/v2/models/double")
        self.assertEqual(meta["versions"], ["1"])
        self.assertEqual(meta["inputs"], [{"name": "x", "datatype": "FP32", "shape": [-1, 4]}])
        self.assertEqual(meta["outputs"], [{"name": "y", "datatype": "FP32", "shape": [-1, 4]}])
        self.assertEqual(self.get("/v2/models/tiny/versions/3")["versions"], ["3"])
        self.get("/v2/models/double/ready")
        self.get("/v2/models/double/versions/1/ready")
        config = self.get("/v2/models/double/config")
        self.assertEqual(config["max_batch_size"], 4)
        self.assertEqual(config["input"][0]["dims"], [4])
        self.assertEqual(config["input"][0]["data_type"], "TYPE_FP32")
        self.get("/v2/models/" + urllib.parse.quote("a name+ü"))

    def test_unknown_things(self):
        for path in ("/v2/models/none", "/v2/models/none/config", "/v2/models/none/ready", "/v2/models/none/stats"):
            self.assertEqual(self.get(path, 404)["error"], "Request for unknown model: 'none' is not found")
        self.assertIn("version 9 is not found", self.get("/v2/models/double/versions/9", 404)["error"])
        self.assertEqual(self.get("/v2/other", 404), {"error": "Not Found"})
        self.assertError(self.server.ask("POST", "/v2/health/live"), 405, "Method Not Allowed")
        self.assertError(self.server.ask("GET", "/v2/models/double/infer"), 405, "Method Not Allowed")

    def test_repository_routes(self):
        index = json.loads(self.server.ask("POST", "/v2/repository/index")[2])
        self.assertIn({"name": "double", "version": "1", "state": "READY"}, index)
        refused = self.server.ask("POST", "/v2/repository/models/double/unload")
        self.assertError(refused, 503, "explicit model load / unload is not allowed if polling is enabled")

    def test_infer_json_binary_raw_and_gzip(self):
        ask = lambda body, headers=None: self.server.ask("POST", "/v2/models/double/infer", body, headers)
        status, headers, body = ask(request_json(id="42"))
        self.assertEqual(status, 200, body)
        self.assertEqual(
            json.loads(body),
            {"id": "42", "model_name": "double", "model_version": "1",
             "outputs": [{"name": "y", "datatype": "FP32", "shape": [1, 4], "data": [2.0, 4.0, 6.0, 8.0]}]},
        )
        head = {"inputs": [{"name": "x", "shape": [2, 4], "datatype": "FP32", "parameters": {"binary_data_size": 32}}],
                "outputs": [{"name": "y", "parameters": {"binary_data": True}}]}
        head = json.dumps(head).encode()
        values = struct.pack("<8f", *range(8))
        status, headers, body = ask(head + values, {"Inference-Header-Content-Length": str(len(head))})
        self.assertEqual(status, 200, body)
        n = int(headers["inference-header-content-length"])
        self.assertEqual(headers["content-type"], "application/octet-stream")
        self.assertEqual(struct.unpack("<8f", body[n:]), tuple(2.0 * i for i in range(8)))
        self.assertEqual(json.loads(body[:n])["outputs"][0]["parameters"], {"binary_data_size": 32})
        status, headers, body = ask(values[:16], {"Inference-Header-Content-Length": "0"})
        self.assertEqual(struct.unpack("<4f", body[int(headers["inference-header-content-length"]) :]), (0, 2, 4, 6))
        status, headers, body = ask(gzip.compress(request_json().encode()), {"Content-Encoding": "gzip", "Accept-Encoding": "gzip"})
        self.assertEqual(headers["content-encoding"], "gzip")
        self.assertEqual(json.loads(gzip.decompress(body))["outputs"][0]["data"], [2.0, 4.0, 6.0, 8.0])

    def test_a_real_model_gives_ten_scores(self):
        meta = self.get("/v2/models/tiny")
        port = meta["inputs"][0]
        shape = [1 if d < 0 else d for d in port["shape"]]
        count = 1
        for d in shape:
            count *= d
        tensor = {"name": port["name"], "shape": shape, "datatype": port["datatype"], "data": [0.5] * count}
        name = meta["outputs"][0]["name"]
        body = json.dumps({"inputs": [tensor], "outputs": [{"name": name, "parameters": {"classification": 3}}]})
        status, _, body = self.server.ask("POST", "/v2/models/tiny/infer", body)
        self.assertEqual(status, 200, body)
        best = json.loads(body)["outputs"][0]["data"]
        self.assertEqual(len(best), 3)
        self.assertRegex(best[0], r"^-?\d+\.\d{6}:\d$")

    def test_statistics_and_metrics(self):
        before = self.get("/v2/models/double/stats")["model_stats"][0]
        self.server.ask("POST", "/v2/models/double/infer", request_json())
        self.server.ask("POST", "/v2/models/double/infer", request_json([1.0] * 8, (2, 4)))
        after = self.get("/v2/models/double/stats")["model_stats"][0]
        self.assertEqual(after["inference_count"] - before["inference_count"], 3)
        self.assertEqual(after["execution_count"] - before["execution_count"], 2)
        self.assertGreater(after["inference_stats"]["compute_infer"]["ns"], before["inference_stats"]["compute_infer"]["ns"])
        self.assertGreaterEqual(len(self.get("/v2/models/stats")["model_stats"]), 3)
        status, headers, text = self.server.ask("GET", "/metrics", port=self.server.metrics)
        self.assertEqual(status, 200)
        self.assertTrue(headers["content-type"].startswith("text/plain"))
        text = text.decode()
        for name in ("nv_inference_request_success", "nv_inference_count", "nv_inference_request_duration_us",
                     "dunlin_request_duration_seconds_bucket", "nv_inference_pending_request_count"):
            self.assertRegex(text, name + r'\{[^}]*model="double"')
        for name in ("nv_cpu_memory_used_bytes", "nv_cpu_utilization", "process_resident_memory_bytes"):
            self.assertRegex(text, r"(?m)^" + name + r" \d")
        self.assertEqual(self.server.ask("GET", "/other", port=self.server.metrics)[0], 404)


class Malformed(Case):
    """Each a clear error with the right status, and the process as alive and as small as before."""

    @classmethod
    def setUpClass(cls):
        folder = tempfile.TemporaryDirectory()
        cls.addClassCleanup(folder.cleanup)
        base = pathlib.Path(folder.name)
        (base / "double" / "1").mkdir(parents=True)
        (base / "double" / "1" / "model.onnx").write_bytes(add_model())
        cls.server = Server(base, "--http-read-timeout-secs", "1", "--http-max-header-size", "8192")
        cls.addClassCleanup(cls.server.kill)

    def tearDown(self):
        self.assertIsNone(self.server.process.poll(), "the server has died")
        self.assertEqual(self.server.ask("POST", "/v2/models/double/infer", request_json())[0], 200)

    def refuse(self, body, status, message, headers=None):
        self.assertError(self.server.ask("POST", "/v2/models/double/infer", body, headers), status, message)

    def test_bad_requests(self):
        self.refuse("{", 400, "failed to parse the request JSON buffer")
        self.refuse("\xff\xfe", 400, "failed to parse the request JSON buffer")
        self.refuse("{}", 400, "Unable to parse 'inputs'")
        self.refuse(request_json(shape=(1, 5)), 400, "Shape does not match true shape of 'data' field")
        self.refuse(request_json([1.0] * 5, (1, 5)), 400, "unexpected shape for input 'x' for model 'double'. Expected [-1,4], got [1,5]")
        self.refuse(request_json([1.0] * 20, (5, 4)), 400, "inference request batch-size must be <= 4 for 'double'")
        self.refuse(request_json(shape=(-1, 4)), 400, "Unable to parse 'shape'")
        self.refuse(request_json(shape=(2**62, 2**62)), 400, "Unable to parse 'shape'")
        self.refuse(request_json(shape=(1, 2**40)), 400, "Shape does not match")
        self.refuse(request_json().replace("FP32", "INT32").replace(".0", ""), 400,
                    "[request id: <id_unknown>] inference input 'x' data-type is 'INT32', but model 'double' expects 'FP32'")
        self.refuse(request_json(outputs=[{"name": "z"}]), 400, "unexpected inference output 'z'")
        self.refuse('{"inputs":[{"name":"x","shape":[1,4],"datatype":"FP32","data":' + "[" * 5000 + "]" * 5000 + "}]}", 400, "parse")
        self.refuse(request_json(), 400, "Unable to parse Inference-Header-Content-Length", {"Inference-Header-Content-Length": "ten"})
        self.refuse(request_json(), 400, "inference header size should be in range", {"Inference-Header-Content-Length": str(2**30)})
        self.refuse(b"xx", 400, "failed to decompress", {"Content-Encoding": "gzip"})
        self.refuse(request_json(), 501, "Unsupported compression type", {"Content-Encoding": "br"})

    def test_a_decompression_bomb(self):
        before = self.server.rss()
        self.refuse(gzip.compress(b" " * (200 << 20), 1), 400, "--http-max-input-size", {"Content-Encoding": "gzip"})
        self.assertLess(self.server.rss() - before, 150 << 20)

    def test_a_gigabyte_that_is_only_claimed(self):
        before = self.server.rss()
        for header in (b"Content-Length: 1073741824", b"Content-Length: 18446744073709551615"):
            reply = self.server.raw(b"POST /v2/models/double/infer HTTP/1.1\r\n" + header + b"\r\n\r\n{}")
            self.assertRegex(reply, rb"^HTTP/1.1 4(00|13) ")
        # Within the limits but never sent: costs what has arrived, and ends after the time-out.
        big = b"POST /v2/models/double/infer HTTP/1.1\r\nInference-Header-Content-Length: 10\r\nContent-Length: 500000000\r\n\r\n{}"
        self.assertRegex(self.server.raw(big), rb"^HTTP/1.1 408 ")
        self.assertLess(self.server.rss() - before, 20 << 20)
        self.assertRegex(self.server.raw(b"GET /v2 HTTP/1.1\r\nX: " + b"a" * 20000 + b"\r\n\r\n"), rb"^HTTP/1.1 431 ")

    def test_not_http(self):
        self.assertRegex(self.server.raw(b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n"), rb"^HTTP/1.1 400 ")
        self.assertRegex(self.server.raw(b"GET\r\n\r\n"), rb"^HTTP/1.1 400 ")

    def test_clients_that_leave_in_the_middle(self):
        body = request_json().encode()
        whole = b"POST /v2/models/double/infer HTTP/1.1\r\nContent-Length: %d\r\n\r\n" % len(body) + body
        for cut in (1, 10, 40, len(whole) - 1, len(whole)):
            for reset in (False, True):
                with socket.create_connection((HOST, self.server.http)) as s:
                    s.sendall(whole[:cut])
                    if reset:
                        s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    def test_slow_clients_end_and_do_not_block_others(self):
        slow = [socket.create_connection((HOST, self.server.http)) for _ in range(30)]
        try:
            deadline = time.monotonic() + 4
            for i in range(20):
                for s in slow:
                    try:
                        s.send(b"GET /v2 HTTP/1.1\r\nX-Slow: "[i : i + 1])
                    except OSError:
                        pass
                if i % 5 == 0:
                    start = time.monotonic()
                    self.assertEqual(self.server.ask("POST", "/v2/models/double/infer", request_json())[0], 200)
                    self.assertLess(time.monotonic() - start, 2)
                time.sleep(0.1)
            for s in slow:
                s.settimeout(max(0.1, deadline - time.monotonic()))
                self.assertIn(b"408", s.recv(4096))
        finally:
            for s in slow:
                s.close()

    def test_pipelined_requests_are_answered_in_order(self):
        with socket.create_connection((HOST, self.server.http), timeout=10) as s:
            for i in range(20):
                body = request_json(id=str(i)).encode()
                s.sendall(b"POST /v2/models/double/infer HTTP/1.1\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
            s.sendall(b"GET /v2 HTTP/1.1\r\nConnection: close\r\n\r\n")
            received = b""
            while piece := s.recv(65536):
                received += piece
        ids = [part.split(b'"')[0] for part in received.split(b'"id":"')[1:]]
        self.assertEqual(ids, [str(i).encode() for i in range(20)])

    def test_chunked_and_expect(self):
        body = request_json().encode()
        chunks = b"".join(b"%x\r\n" % len(body[i : i + 7]) + body[i : i + 7] + b"\r\n" for i in range(0, len(body), 7)) + b"0\r\n\r\n"
        reply = self.server.raw(b"POST /v2/models/double/infer HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks)
        self.assertIn(b"[2.0,4.0,6.0,8.0]", reply)
        with socket.create_connection((HOST, self.server.http), timeout=10) as s:
            s.sendall(b"POST /v2/models/double/infer HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: %d\r\n\r\n" % len(body))
            self.assertEqual(s.recv(100), b"HTTP/1.1 100 Continue\r\n\r\n")
            s.sendall(body)
            self.assertIn(b"200 OK", s.recv(65536))


class Load:
    """Clients that keep their connection and ask again and again, counting what is not a 200."""

    def __init__(self, server, count, model="double", body=None):
        self.server, self.model, self.body = server, model, body or request_json()
        self.stop, self.good, self.bad, self.refused = threading.Event(), 0, [], 0
        self.lock = threading.Lock()
        self.threads = [threading.Thread(target=self._run, daemon=True) for _ in range(count)]
        for t in self.threads:
            t.start()

    def _run(self):
        path = f"/v2/models/{self.model}/infer"
        connection = None
        while not self.stop.is_set():
            try:
                if connection is None:
                    connection = self.server.connect()
                    connection.connect()
            except OSError:
                with self.lock:
                    self.refused += 1  # not accepted, so not promised anything
                connection = None
                time.sleep(0.01)
                continue
            try:
                connection.request("POST", path, self.body)
                reply = connection.getresponse()
                data = reply.read()
                with self.lock:
                    if reply.status == 200 and b"[2.0,4.0,6.0,8.0]" in data:
                        self.good += 1
                    else:
                        self.bad.append((reply.status, data[:200]))
                if reply.getheader("Connection") == "close":
                    connection.close()
                    connection = None
            except (OSError, http.client.HTTPException) as e:
                with self.lock:
                    self.bad.append(repr(e))
                connection.close()
                connection = None
        if connection is not None:
            connection.close()

    def finish(self):
        self.stop.set()
        for t in self.threads:
            t.join(30)
        return self.good, self.bad


class UnderLoad(Case):
    def test_many_connections_and_no_growth(self):
        self.write("double/1/model.onnx", add_model())
        server = self.serve()
        load = Load(server, 32)
        time.sleep(1.5)
        before = server.rss()
        time.sleep(3)
        after = server.rss()
        good, bad = load.finish()
        self.assertEqual(bad, [])
        self.assertGreater(good, 500)
        self.assertLess(after - before, 16 << 20)
        self.assertEqual(server.stop(), 0)

    def test_sigterm_fails_no_accepted_request(self):
        self.write("double/1/model.onnx", add_model())
        server = self.serve()
        load = Load(server, 16)
        idle = server.connect()
        self.addCleanup(idle.close)
        idle.request("GET", "/v2/health/ready")
        idle.getresponse().read()
        time.sleep(1)
        start = time.monotonic()
        self.assertEqual(server.stop(), 0)
        self.assertLess(time.monotonic() - start, 10)
        good, bad = load.finish()
        self.assertEqual(bad, [])
        self.assertGreater(good, 100)

    def test_readiness_ends_before_the_answers_do(self):
        self.write("double/1/model.onnx", add_model())
        server = self.serve()
        waiting, probe = server.connect(), server.connect()
        for c in (waiting, probe):
            self.addCleanup(c.close)
            c.request("GET", "/v2/health/ready")
            self.assertEqual(c.getresponse().read(), b"")
        server.process.send_signal(signal.SIGTERM)
        server.wait_for("stopping")
        probe.request("GET", "/v2/health/ready")
        reply = probe.getresponse()
        self.assertEqual(reply.status, 503)
        self.assertEqual(reply.getheader("Connection"), "close")
        reply.read()
        waiting.request("POST", "/v2/models/double/infer", request_json())
        answer = waiting.getresponse()
        self.assertEqual(answer.status, 200)
        answer.read()
        self.assertEqual(server.process.wait(15), 0)

    def test_a_second_signal_ends_at_once(self):
        self.write("double/1/model.onnx", add_model())
        server = self.serve("--exit-timeout-secs", "20")
        with socket.create_connection((HOST, server.http)) as half:
            half.sendall(b"POST /v2/models/double/infer HTTP/1.1\r\nContent-Length: 10\r\n\r\n")
            time.sleep(0.3)
            server.process.send_signal(signal.SIGTERM)
            server.wait_for("stopping")
            time.sleep(0.8)
            self.assertIsNone(server.process.poll(), "waits for the request that has begun")
            server.process.send_signal(signal.SIGINT)
            self.assertEqual(server.process.wait(5), 128 + signal.SIGINT)

    def test_reloads_under_load(self):
        self.write("double/1/model.onnx", add_model())
        server = self.serve("--model-control-mode", "explicit", "--load-model", "double")
        load = Load(server, 8)
        for i in range(20):
            time.sleep(0.05)
            # The same function in another file; every third one is broken and must not be noticed.
            model = add_model(("N", 4)) + onnx.block(2, f"producer {i}")
            self.write("double/1/model.onnx", b"broken" if i % 3 == 2 else model)
            status, _, body = server.ask("POST", "/v2/repository/models/double/load")
            self.assertEqual(status, 400 if i % 3 == 2 else 200, body)
        good, bad = load.finish()
        self.assertEqual(bad, [])
        self.assertGreater(good, 100)
        self.assertEqual(server.stop(), 0)

    def test_more_connections_than_are_served_get_an_answer(self):
        self.write("double/1/model.onnx", add_model())
        server = self.serve("--http-max-connections", "4")
        with concurrent.futures.ThreadPoolExecutor(12) as pool:
            def one(_):
                connection = server.connect()
                connection.request("GET", "/v2")
                reply = connection.getresponse()
                reply.read()
                time.sleep(0.5)
                connection.close()
                return reply.status
            statuses = list(pool.map(one, range(12)))
        self.assertGreaterEqual(statuses.count(200), 4)
        self.assertGreaterEqual(statuses.count(503), 4)
        self.assertEqual(len(statuses), statuses.count(200) + statuses.count(503))


class Repositories(Case):
    def index(self, server):
        entries = json.loads(server.ask("POST", "/v2/repository/index")[2])
        return {(e["name"], e.get("version")): e for e in entries}

    def eventually(self, condition, seconds=20):
        end = time.monotonic() + seconds
        while not condition():
            self.assertLess(time.monotonic(), end, "did not happen in time")
            time.sleep(0.05)

    def test_explicit_mode(self):
        self.write("double/1/model.onnx", add_model())
        self.write("other/1/model.onnx", add_model(op="Mul"))
        server = self.serve("--model-control-mode", "explicit", "--load-model", "double")
        self.assertEqual(self.index(server)[("other", None)], {"name": "other"})
        self.assertEqual(server.ask("GET", "/v2/models/other/ready")[0], 404)
        self.assertEqual(server.ask("POST", "/v2/repository/models/other/load")[0], 200)
        self.assertEqual(server.ask("POST", "/v2/models/other/infer", request_json())[0], 200)
        config = json.dumps({"parameters": {"config": json.dumps({"max_batch_size": 2})}})
        self.assertEqual(server.ask("POST", "/v2/repository/models/other/load", config)[0], 200)
        self.assertEqual(json.loads(server.ask("GET", "/v2/models/other/config")[2])["max_batch_size"], 2)
        self.assertEqual(server.ask("POST", "/v2/repository/models/other/unload")[0], 200)
        self.eventually(lambda: self.index(server)[("other", "1")].get("reason") == "unloaded")
        self.assertError(server.ask("POST", "/v2/models/other/infer", request_json()), 404, "has no available versions")
        self.assertError(server.ask("POST", "/v2/repository/models/gone/load"), 500, "failed to load 'gone', failed to poll from model repository")
        self.assertEqual(server.stop(), 0)

    def test_poll_mode_finds_new_versions_and_keeps_the_old_when_they_are_bad(self):
        self.write("double/1/model.onnx", add_model())
        server = self.serve("--model-control-mode", "poll", "--repository-poll-secs", "1")
        self.write("double/2/model.onnx", add_model(op="Mul"))
        infer = lambda: json.loads(server.ask("POST", "/v2/models/double/infer", request_json())[2])
        self.eventually(lambda: infer()["model_version"] == "2")
        self.assertEqual(infer()["outputs"][0]["data"], [1.0, 4.0, 9.0, 16.0])
        self.write("double/3/model.onnx", add_model()[:40])
        self.eventually(lambda: ("double", "3") in self.index(server) and self.index(server)[("double", "3")]["state"] == "UNAVAILABLE")
        self.assertEqual(infer()["model_version"], "2")
        shutil.rmtree(self.repository / "double" / "3")
        shutil.rmtree(self.repository / "double" / "2")
        self.eventually(lambda: infer()["model_version"] == "1")
        shutil.rmtree(self.repository / "double")
        self.eventually(lambda: server.ask("GET", "/v2/models/double/ready")[0] == 400)
        self.assertEqual(server.stop(), 0)

    def test_a_bad_model_at_the_start(self):
        self.write("bad/1/model.onnx", b"not a model")
        self.write("double/1/model.onnx", add_model())
        server = self.serve(wait=False)
        self.assertNotEqual(server.process.wait(30), 0)
        self.assertTrue(any(l["event"] == "startup failed" and "bad" in l["error"] for l in server.lines))
        server = self.serve("--exit-on-error=false")
        self.assertEqual(server.ask("GET", "/v2/health/ready")[0], 400)
        self.assertEqual(server.ask("GET", "/v2/health/live")[0], 200)
        self.assertEqual(server.ask("POST", "/v2/models/double/infer", request_json())[0], 200)
        self.assertEqual(server.stop(), 0)
        server = self.serve("--exit-on-error=false", "--strict-readiness=false")
        self.assertEqual(server.ask("GET", "/v2/health/ready")[0], 200)
        self.assertEqual(server.stop(), 0)

    def test_configuration_files(self):
        self.write("double/1/model.onnx", add_model())
        self.write("double/config.pbtxt", """
            name: "double"  # comments are fine
            platform: "onnxruntime_onnx"
            max_batch_size: 16
            input [ { name: "x", data_type: TYPE_FP32, dims: [ 4 ] } ]
            output [ { name: "y" data_type: TYPE_FP32 dims: [ 4 ] label_filename: "labels.txt" } ]
            instance_group [ { count: 1 kind: KIND_CPU } ]
            version_policy: { all { } }
            parameters { key: "intra_op_thread_count" value: { string_value: "1" } }
            model_warmup [ { name: "w" batch_size: 4 inputs { key: "x" value: { data_type: TYPE_FP32 dims: 4 zero_data: true } } } ]
        """)
        self.write("double/labels.txt", "one\ntwo\nthree\nfour\n")
        server = self.serve()
        body = request_json(outputs=[{"name": "y", "parameters": {"classification": 1}}])
        reply = json.loads(server.ask("POST", "/v2/models/double/infer", body)[2])
        self.assertEqual(reply["outputs"][0]["data"], ["8.000000:3:four"])
        self.assertEqual(server.stop(), 0)
        self.write("double/config.pbtxt", "max_batch_size: 16 input [ { name: 'x' data_type: TYPE_INT8 dims: 4 } ]")
        server = self.serve(wait=False)
        self.assertNotEqual(server.process.wait(30), 0)
        self.assertTrue(any("configuration expects datatype TYPE_INT8 for input 'x'" in l.get("error", "") for l in server.lines))


if __name__ == "__main__":
    DUNLIN = sys.argv[1]
    unittest.main(argv=[sys.argv[0], *sys.argv[2:]])
