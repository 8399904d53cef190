#!/usr/bin/env python3
"""HTTPS and who may call what, against the real process.

    tests/server/http_security_test.py DUNLIN [unittest options]
"""

import contextlib
import http.client
import json
import pathlib
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import time
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
import server_test as base  # noqa: E402
from server_test import HOST, Case, Server, add_model, request_json  # noqa: E402


def openssl(*arguments):
    subprocess.run(["openssl", *map(str, arguments)], check=True, capture_output=True)


class Certificates:
    """An authority, the server's certificate and a client's, as PEM files."""

    def __init__(self, folder):
        self.folder = pathlib.Path(folder)
        openssl("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", self.path("ca.key"), "-out", self.path("ca.pem"), "-days", 2, "-subj", "/CN=test authority")
        self.sign("server", "subjectAltName=IP:127.0.0.1")
        self.sign("client", "subjectAltName=DNS:good.client")
        openssl("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", self.path("stranger.key"), "-out", self.path("stranger.pem"), "-days", 2, "-subj", "/CN=stranger")

    def path(self, name):
        return self.folder / name

    def sign(self, name, extension):
        openssl("req", "-newkey", "rsa:2048", "-nodes", "-keyout", self.path(f"{name}.key"), "-out", self.path(f"{name}.csr"), "-subj", f"/CN={name}")
        self.path(f"{name}.ext").write_text(extension)
        openssl("x509", "-req", "-in", self.path(f"{name}.csr"), "-CA", self.path("ca.pem"), "-CAkey", self.path("ca.key"), "-CAcreateserial", "-days", 2, "-extfile", self.path(f"{name}.ext"), "-out", self.path(f"{name}.pem"))
        self.path(f"{name}.key").chmod(0o600)

    def context(self, client=None):
        context = ssl.create_default_context(cafile=self.path("ca.pem"))
        if client:
            context.load_cert_chain(self.path(f"{client}.pem"), self.path(f"{client}.key"))
        return context


class Tls(Case):
    @classmethod
    def setUpClass(cls):
        folder = tempfile.TemporaryDirectory()
        cls.addClassCleanup(folder.cleanup)
        cls.files = Certificates(folder.name)

    def setUp(self):
        super().setUp()
        self.write("double/1/model.onnx", add_model())

    def flags(self, *more):
        return ("--http-ssl-cert-file", str(self.files.path("server.pem")), "--http-ssl-key-file", str(self.files.path("server.key")), *more)

    def ask(self, server, context, method="GET", path="/v2", body=None, headers=None):
        connection = http.client.HTTPSConnection(HOST, server.http, context=context, timeout=20)
        try:
            connection.request(method, path, body, headers or {})
            reply = connection.getresponse()
            return reply.status, reply.read()
        finally:
            connection.close()

    def test_requests_over_tls(self):
        server = self.serve(*self.flags("--http-read-timeout-secs", "2"))
        context = self.files.context()
        status, body = self.ask(server, context, "POST", "/v2/models/double/infer", request_json())
        self.assertEqual((status, json.loads(body)["outputs"][0]["data"]), (200, [2.0, 4.0, 6.0, 8.0]))
        # More than a record, both ways, and several on one connection.
        big = json.dumps({"inputs": [{"name": "x", "shape": [4, 4], "datatype": "FP32", "data": [1.0] * 16}]}) + " " * 300000
        with context.wrap_socket(socket.create_connection((HOST, server.http), timeout=20), server_hostname=HOST) as s:
            self.assertIn(s.version(), ("TLSv1.2", "TLSv1.3"))
            request = f"POST /v2/models/double/infer HTTP/1.1\r\nContent-Length: {len(big)}\r\n\r\n{big}".encode()
            s.sendall(request * 3 + b"GET /v2 HTTP/1.1\r\nConnection: close\r\n\r\n")
            received = b""
            while piece := s.recv(65536):
                received += piece
        self.assertEqual(received.count(b"HTTP/1.1 200 OK"), 4)
        # Plain HTTP, an old version, and silence get no answer, and soon.
        with socket.create_connection((HOST, server.http), timeout=10) as s:
            s.sendall(b"GET /v2 HTTP/1.1\r\n\r\n")
            with contextlib.suppress(ConnectionError):
                self.assertNotIn(b"HTTP/1.1", s.recv(4096))
        old = self.files.context()
        try:
            old.minimum_version, old.maximum_version = ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1
        except ValueError:
            old = None
        if old:
            with self.assertRaises((ssl.SSLError, ConnectionError)):
                self.ask(server, old)
        begin = time.monotonic()
        with socket.create_connection((HOST, server.http), timeout=20) as s:
            s.sendall(b"\x16\x03\x01")
            self.assertEqual(s.recv(1), b"")
        self.assertLess(time.monotonic() - begin, 15)
        self.assertEqual(server.stop(), 0)

    def test_clients_must_have_a_certificate(self):
        server = self.serve(*self.flags("--http-ssl-client-ca-file", str(self.files.path("ca.pem"))))
        self.assertEqual(self.ask(server, self.files.context("client"))[0], 200)
        for client in (None, "stranger"):
            with self.assertRaises((ssl.SSLError, ConnectionError, http.client.RemoteDisconnected)):
                self.ask(server, self.files.context(client))

    def test_certificates_change_on_sighup(self):
        for kind in ("pem", "key"):
            shutil.copy(self.files.path(f"server.{kind}"), self.files.path(f"live.{kind}"))
        self.files.sign("next", "subjectAltName=IP:127.0.0.1")
        server = self.serve("--http-ssl-cert-file", str(self.files.path("live.pem")), "--http-ssl-key-file", str(self.files.path("live.key")))
        context = self.files.context()

        def connect():
            s = context.wrap_socket(socket.create_connection((HOST, server.http), timeout=20), server_hostname=HOST)
            self.addCleanup(s.close)
            return s

        def subject(s):
            return dict(part[0] for part in s.getpeercert()["subject"])["commonName"]

        old = connect()
        self.assertEqual(subject(old), "server")
        for kind in ("key", "pem"):
            shutil.copy(self.files.path(f"next.{kind}"), self.files.path(f"live.{kind}"))
        server.process.send_signal(signal.SIGHUP)
        end = time.monotonic() + 20
        while subject(connect()) != "next":
            self.assertLess(time.monotonic(), end)
            time.sleep(0.05)
        # Who is connected stays so.
        old.sendall(b"GET /v2/health/live HTTP/1.1\r\n\r\n")
        self.assertIn(b"200 OK", old.recv(4096))
        # Half a change: a key that is not the certificate's.
        shutil.copy(self.files.path("server.pem"), self.files.path("live.pem"))
        server.process.send_signal(signal.SIGHUP)
        server.wait_for("reload failed, what was in force stays so")
        self.assertEqual(subject(connect()), "next")
        self.assertEqual(server.stop(), 0)

    def test_files_that_are_wrong(self):
        for flags in (
            self.flags()[:2],
            self.flags()[2:],
            ("--http-ssl-cert-file", str(self.files.path("server.pem")), "--http-ssl-key-file", str(self.files.path("client.key"))),
            ("--http-ssl-cert-file", "/nowhere.pem", "--http-ssl-key-file", str(self.files.path("server.key"))),
        ):
            server = self.serve(*flags, wait=False)
            self.assertNotEqual(server.process.wait(30), 0, flags)


class Access(Case):
    def test_restricted_groups(self):
        self.write("double/1/model.onnx", add_model())
        server = self.serve("--http-restricted-api=inference,model-repository:secret-key=open sesame")
        ask = lambda headers=None: server.ask("POST", "/v2/models/double/infer", request_json(), headers)
        self.assertError(ask(), 403, "This API is restricted, expecting header 'secret-key'")
        self.assertError(ask({"secret-key": "wrong"}), 403, "This API is restricted")
        self.assertEqual(ask({"Secret-Key": "open sesame"})[0], 200)
        for method, path in (("POST", "/v2/repository/index"), ("POST", "/v2/models/double/generate"), ("POST", "/v1/models/double:predict")):
            self.assertError(server.ask(method, path, "{}"), 403, "This API is restricted")
        self.assertEqual(server.ask("GET", "/v2/models/double")[0], 200)


class LoadReports(Case):
    def test_replies_carry_what_the_client_asks_for(self):
        self.write("double/1/model.onnx", add_model())
        server = self.serve()
        ask = lambda form: server.ask("POST", "/v2/models/double/infer", request_json(), {"endpoint-load-metrics-format": form})[1].get("endpoint-load-metrics")
        self.assertRegex(ask("text"), r"^TEXT cpu_utilization=[01]\.\d+, mem_utilization=0\.\d+$")
        report = ask("json")
        self.assertTrue(report.startswith("JSON "), report)
        self.assertLess(json.loads(report[5:])["mem_utilization"], 1)
        self.assertIsNone(ask("xml"))


class Settings(Case):
    def test_trace_and_logging(self):
        self.write("double/1/model.onnx", add_model())
        traces = self.repository.parent / (self.repository.name + ".traces")
        self.addCleanup(lambda: traces.unlink(missing_ok=True))
        server = self.serve("--trace-config", f"triton,file={traces}")
        get = lambda path: json.loads(server.ask("GET", path)[2])
        settings = get("/v2/trace/setting")
        self.assertEqual(settings["trace_level"], ["OFF"])
        self.assertEqual((settings["trace_rate"], settings["trace_count"]), ("1000", "-1"))
        post = lambda path, body: server.ask("POST", path, json.dumps(body))
        reply = post("/v2/models/double/trace/setting", {"trace_level": ["TIMESTAMPS"], "trace_rate": "5"})
        self.assertEqual(reply[0], 200, reply)
        self.assertEqual(json.loads(reply[2])["trace_rate"], "5")
        self.assertEqual(get("/v2/models/double/trace/setting")["trace_level"], ["TIMESTAMPS"])
        self.assertEqual(get("/v2/trace/setting")["trace_level"], ["OFF"])
        self.assertEqual(post("/v2/models/double/trace/setting", {"trace_level": None, "trace_rate": None})[0], 200)
        self.assertEqual(get("/v2/models/double/trace/setting")["trace_rate"], "1000")
        self.assertError(post("/v2/trace/setting", {"trace_file": "x"}), 501, "trace file location can not be updated through network protocol")
        self.assertError(post("/v2/trace/setting", {"trace_rate": 3}), 400, "Unable to parse 'trace_rate'")
        self.assertError(post("/v2/trace/setting", []), 400, "failed to parse the request JSON buffer")
        self.assertError(server.ask("GET", "/v2/models/none/trace/setting"), 400, "Request for unknown model : none")
        logging = get("/v2/logging")
        self.assertEqual(set(logging), {"log_file", "log_info", "log_warning", "log_error", "log_verbose_level", "log_format"})
        reply = json.loads(post("/v2/logging", {"log_info": False, "log_verbose_level": 2})[2])
        self.assertEqual((reply["log_info"], reply["log_verbose_level"]), (False, 2))
        self.assertEqual(post("/v2/logging", {"log_file": "/tmp/x"})[0], 501)
        self.assertEqual(post("/v2/logging", {"log_info": 3})[0], 400)
        self.assertEqual(get("/v2/logging")["log_verbose_level"], 2)

    def test_the_access_log(self):
        self.write("double/1/model.onnx", add_model())
        log = self.repository.parent / (self.repository.name + ".access")
        self.addCleanup(lambda: log.unlink(missing_ok=True))
        server = self.serve("--access-log", str(log))
        server.ask("POST", "/v2/models/double/infer", request_json(id="a b"))
        server.ask("GET", "/v2/nowhere?secret=1")
        server.raw(b"nonsense\r\n\r\n")
        self.assertEqual(server.stop(), 0)
        lines = log.read_text().splitlines()
        self.assertEqual(len(lines), 3, lines)
        self.assertRegex(lines[0], r"peer=127.0.0.1:\d+ method=POST path=/v2/models/double/infer status=200 bytes_in=\d+ bytes_out=\d+ us=[\d.]+ id=.*a b")
        self.assertRegex(lines[1], r"method=GET path=/v2/nowhere status=404")
        self.assertNotIn("secret", lines[1])
        self.assertIn("status=400", lines[2])


if __name__ == "__main__":
    base.DUNLIN = sys.argv[1]
    unittest.main(argv=[sys.argv[0], *sys.argv[2:]])
