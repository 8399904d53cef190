#!/usr/bin/env python3
"""`dunlin perf` against the real server, and against servers that stall, refuse and lie.

    tests/server/perf_test.py DUNLIN [unittest options]
"""

import http.server
import json
import pathlib
import socketserver
import subprocess
import sys
import tempfile
import threading
import time
import unittest

import server_test
from server_test import Case, Server, add_model

HOST = server_test.HOST
USAGE, INPUT, SERVER = 2, 5, 6


def perf(*words, **options):
    return subprocess.run([server_test.DUNLIN, "perf", *map(str, words)], capture_output=True, timeout=60, **options)


class FakeHandler(http.server.BaseHTTPRequestHandler):
    """An identity-like model of one float, answered by `server.answer(handler)`."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1

    def reply(self, status, value, headers=()):
        body = value if isinstance(value, bytes) else json.dumps(value).encode()
        self.send_response(status)
        for header in headers:
            self.send_header(*header)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
        self.wfile.flush()

    def do_GET(self):
        if self.path.endswith("/stats"):
            return self.reply(404, {"error": "no statistics here"})
        port = {"datatype": "FP32", "shape": [1]}
        self.reply(200, {"name": "m", "inputs": [{"name": "x", **port}], "outputs": [{"name": "y", **port}]})

    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        self.server.answer(self)

    def result(self, value=1.0):
        self.reply(200, {"outputs": [{"name": "y", "datatype": "FP32", "shape": [1], "data": [value]}]})

    def log_message(self, *_):
        pass


class FakeServer(socketserver.ThreadingMixIn, http.server.HTTPServer):
    daemon_threads = True
    request_queue_size = 256

    def __init__(self, answer):
        super().__init__((HOST, 0), FakeHandler)
        self.answer = answer
        self.url = f"http://{HOST}:{self.server_port}"
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def handle_error(self, request, client_address):
        pass  # clients that hang up are the point of some tests


class Fake(unittest.TestCase):
    def fake(self, answer):
        server = FakeServer(answer)
        self.addCleanup(server.server_close)
        self.addCleanup(server.shutdown)
        return server

    def measure(self, server, *words, code=0):
        done = perf(server.url, "m", "--json", *words)
        self.assertEqual(done.returncode, code, done.stderr)
        return json.loads(done.stdout)["levels"][0]

    def stalling(self, seconds):
        """A server that stops once, for `seconds`, half a second after its first answer."""
        state = {"lock": threading.Lock(), "first": None}

        def answer(handler):
            with state["lock"]:
                now = time.monotonic()
                state["first"] = state["first"] or now
                left = state["first"] + 0.5 + seconds - now
                if left < seconds and left > 0:
                    time.sleep(left)
            handler.result()

        return self.fake(answer)

    def test_an_open_loop_shows_a_stall_and_a_closed_one_does_not(self):
        """1 s of 3 s: a third of the arrivals waits, half a second on average."""
        opened = self.measure(self.stalling(1), "--request-rate", 100, "--arrival", "constant", "--warmup", 0, "--seconds", 3)
        self.assertGreater(opened["latency_us"]["p90"], 300_000)
        self.assertEqual(opened["not_sent"], 0)
        self.assertEqual(opened["sent"], 300)
        closed = self.measure(self.stalling(1), "--warmup", 0, "--seconds", 3)
        self.assertLess(closed["latency_us"]["p90"], 300_000)
        self.assertGreater(closed["latency_us"]["max"], 900_000)

    def test_what_does_not_fit_is_not_sent_and_said_so(self):
        level = self.measure(self.stalling(1), "--request-rate", 100, "--arrival", "constant", "--warmup", 0,
                             "--seconds", 3, "--max-outstanding", 5)
        self.assertGreater(level["not_sent"], 50)
        self.assertEqual(level["sent"] + level["not_sent"], 300)

    def test_wrong_answers_are_counted_and_end_it_with_an_error(self):
        count = iter(range(1 << 30))
        level = self.measure(self.fake(lambda h: h.result(2.0 if next(count) % 7 == 6 else 1.0)), "--payloads", 1,
                             "--warmup", 0, "--seconds", 0.5, code=SERVER)
        self.assertGreater(level["wrong"], 0)
        level = self.measure(self.fake(lambda h: h.result(2.0 if next(count) % 7 == 6 else 1.0)), "--no-check",
                             "--warmup", 0, "--seconds", 0.5)
        self.assertEqual(level["wrong"], 0)

    def test_other_bytes_of_the_same_values_are_right(self):
        def valid(handler, count=iter(range(1 << 30))):
            handler.result([1.0, 1.0000001, 1][next(count) % 3])

        self.assertEqual(self.measure(self.fake(valid), "--payloads", 1, "--seconds", 0.5)["wrong"], 0)

    def test_errors_are_counted_by_what_they_say(self):
        count = iter(range(1 << 30))

        def answer(handler):
            handler.reply(503, {"error": "Exceeds maximum queue size"}) if next(count) % 2 else handler.result()

        level = self.measure(self.fake(answer), "--warmup", 0, "--seconds", 0.5)
        self.assertEqual(level["errors"]["503 Exceeds maximum queue size"], level["failed"])
        self.assertGreater(level["failed"], 0)
        self.assertEqual(level["latency_us"]["count"], level["answered"])

    def test_a_server_that_only_refuses_is_an_error_that_says_why(self):
        done = perf(self.fake(lambda h: h.reply(400, {"error": "not today"})).url, "m", "--seconds", 0.3)
        self.assertEqual(done.returncode, SERVER)
        self.assertIn(b"no request was answered: 400 not today", done.stderr)

    def test_a_slow_answer_is_given_up_on(self):
        server = self.fake(lambda h: (time.sleep(1), h.result()))
        done = perf(server.url, "m", "--timeout", 0.2, "--warmup", 0, "--seconds", 0.5)
        self.assertEqual(done.returncode, SERVER)
        self.assertIn(b"no answer within 200 ms", done.stderr)

    def test_headers_and_tokens_are_sent(self):
        seen = []

        def answer(handler):
            seen.append((handler.headers["Authorization"], handler.headers["X-Tenant"], handler.headers["Host"]))
            handler.result()

        with tempfile.NamedTemporaryFile("w") as token:
            token.write("s3cret\n")
            token.flush()
            self.measure(self.fake(answer), "--header", "X-Tenant: a b", "--header", "Host: models.example",
                         "--token-file", token.name, "--seconds", 0.2)
        self.assertEqual(set(seen), {("Bearer s3cret", "a b", "models.example")})


class Real(Case):
    @classmethod
    def setUpClass(cls):
        folder = tempfile.TemporaryDirectory()
        cls.addClassCleanup(folder.cleanup)
        for name, dims in (("double", ("N", 4)), ("lines", ("N", "L"))):
            path = pathlib.Path(folder.name) / name / "1" / "model.onnx"
            path.parent.mkdir(parents=True)
            path.write_bytes(add_model(dims))
        cls.server = Server(folder.name)
        cls.addClassCleanup(cls.server.kill)
        cls.url = f"http://{HOST}:{cls.server.http}"

    def measure(self, *words, url=None):
        done = perf(url or self.url, *words, "--json")
        self.assertEqual(done.returncode, 0, done.stderr)
        return json.loads(done.stdout)

    def test_closed_loop_with_the_servers_side(self):
        report = self.measure("double", "--concurrency", "1:5:2", "--warmup", 0.2, "--seconds", 0.5,
                              "--server-pid", self.server.process.pid)
        self.assertEqual(report["load"], "closed loop")
        self.assertEqual([level["concurrency"] for level in report["levels"]], [1, 3, 5])
        for level in report["levels"]:
            self.assertEqual((level["failed"], level["wrong"]), (0, 0), level)
            self.assertGreater(level["answered"], 10)
            self.assertGreater(level["client_cpu_us"], 0)
            self.assertIn("server_cpu_us", level)
            # The two ends need not agree on the requests at the borders.
            self.assertAlmostEqual(level["server"]["requests"] / level["answered"], 1, delta=0.5)
            self.assertGreater(level["server"]["executions"], 0)

    def test_grpc(self):
        """More calls in flight than one connection has, and errors as the server words them."""
        url = f"grpc://{HOST}:{self.server.grpc}"
        report = self.measure("double", "--concurrency", 20, "--warmup", 0.2, "--seconds", 0.5, url=url)
        level = report["levels"][0]
        self.assertEqual((level["failed"], level["wrong"]), (0, 0), level)
        self.assertGreater(level["answered"], 20)
        self.assertGreater(level["server"]["requests"], 0)
        done = perf(url, "double", "--shape", "x=1,5", "--seconds", 0.3)
        self.assertEqual(done.returncode, SERVER)
        self.assertIn(b"no request was answered: 3 ", done.stderr)
        self.assertIn(b"unexpected shape for input 'x'", done.stderr)
        done = perf(f"grpc://{HOST}:1", "double")
        self.assertEqual(done.returncode, SERVER)

    def test_open_loop(self):
        report = self.measure("double", "--request-rate", 200, "--warmup", 0.2, "--seconds", 1, "--metrics-url",
                              f"http://{HOST}:{self.server.metrics}/metrics")
        level = report["levels"][0]
        self.assertEqual((report["load"], report["arrival"]), ("open loop", "poisson"))
        self.assertAlmostEqual(level["sent"] + level["not_sent"], 200, delta=80)
        self.assertGreaterEqual(level["latency_us"]["p99"], level["latency_from_sent_us"]["p50"])
        self.assertIn("server_cpu_us", level)

    def test_trace(self):
        path = self.repository / "trace.csv"
        path.write_text("TIMESTAMP,tokens\n" + "".join(f"2023-11-16 18:17:{i // 10:02}.{i % 10}00,1\n" for i in range(50)))
        level = self.measure("double", "--trace", path, "--speed", 10)["levels"][0]
        self.assertEqual(level["latency_us"]["count"], 50)
        self.assertAlmostEqual(level["seconds"], 0.49, delta=0.4)

    def test_lengths_are_drawn(self):
        report = self.measure("lines", "--shape", "x=1,8-128", "--seconds", 0.5)
        self.assertEqual(report["payloads"], 64)
        self.assertEqual(report["levels"][0]["failed"], 0)

    def test_windows_end(self):
        report = self.measure("double", "--warmup", 0.1, "--window", 0.2, "--max-windows", 4, "-b", 2)
        self.assertEqual(report["batch"], 2)
        self.assertIn(len(report["levels"][0]["windows"]), (3, 4))

    def test_text_csv_and_picture(self):
        picture = self.repository / "latency.svg"
        done = perf(self.url, "double", "--seconds", 0.3, "--plot", picture)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn(b"Closed loop", done.stdout)
        self.assertTrue(picture.read_text().startswith("<svg"))
        lines = perf(self.url, "double", "--seconds", 0.3, "--csv").stdout.decode().splitlines()
        self.assertEqual(len(lines), 2)
        self.assertEqual(len(lines[0].split(",")), len(lines[1].split(",")))

    def test_what_is_wrong_is_said_before_any_load(self):
        def fails(code, text, *words):
            done = perf(*words)
            self.assertEqual(done.returncode, code, done.stderr)
            self.assertIn(text, done.stderr.decode())

        fails(SERVER, "unknown model: 'none'", self.url, "none")
        fails(SERVER, "is the server running?", f"http://{HOST}:1", "double")
        fails(INPUT, "no range such as", self.url, "double", "--shape", "x=4-2,4")
        fails(INPUT, "no input has that name", self.url, "double", "--fill", "z=1")
        fails(USAGE, "ftp", "ftp://localhost", "double")
        fails(USAGE, "FIRST:LAST", self.url, "double", "--concurrency", "4:2")
        fails(USAGE, "--request-rate", self.url, "double", "--concurrency", 2, "--request-rate", 2)
        fails(USAGE, "whole numbers", self.url, "double", "--concurrency", 1.5)
        fails(USAGE, "No such file", self.url, "double", "--trace", "/no/such/file")
        fails(USAGE, "Name: value", self.url, "double", "--header", "nonsense")
        fails(USAGE, "NAME=VALUE", self.url, "double", "--parameter", "nonsense")
        fails(USAGE, "--key", self.url, "double", "--cert", "x")
        fails(SERVER, "no process has the number", self.url, "double", "--server-pid", 2**30)


if __name__ == "__main__":
    server_test.DUNLIN = sys.argv.pop(1)
    unittest.main(verbosity=2)
