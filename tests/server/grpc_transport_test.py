#!/usr/bin/python3
"""What gRPC's own client and h2load see of the transport: large messages, many calls, connections that come and go.

    tests/server/grpc_transport_test.py DUNLIN [unittest options]
"""

import concurrent.futures
import re
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
import time
import unittest

import grpc

import grpc_test
import server_test
from grpc_test import SERVICE, GrpcCase, floats, pb, request
from server_test import HOST, add_model


class Transport(GrpcCase):
    def setUp(self):
        super().setUp()
        self.write("double/1/model.onnx", add_model(("N", "M")))
        self.write("double/config.pbtxt", "max_batch_size: 0")

    def test_large_messages_many_at_a_time(self):
        server = self.serve()
        client = self.client(server)
        values = [float(i % 1000) for i in range(2_000_000)]  # 8 MB
        message = request(values, (1, len(values)))
        expected = request([2 * v for v in values]).raw_input_contents[0]
        with concurrent.futures.ThreadPoolExecutor(4) as pool:
            replies = [pool.submit(client.ModelInfer, message) for _ in range(12)]
            for reply in replies:
                self.assertEqual(reply.result().raw_output_contents[0], expected)
        kinds = (grpc.Compression.Gzip, grpc.Compression.Deflate, grpc.Compression.NoCompression)
        for kind in kinds:
            self.assertEqual(client.ModelInfer(message, compression=kind).raw_output_contents[0], expected)
        replies = list(client.stream(iter([message] * 4)))
        self.assertEqual([r.infer_response.raw_output_contents[0] == expected for r in replies], [True] * 4)
        self.assertEqual(server.stop(), 0)

    def test_streams_of_a_thousand_messages_side_by_side(self):
        client = self.client(self.serve())

        def run(stream):
            requests = (request([float(i)] * 4, id=f"{stream}.{i}") for i in range(1000))
            replies = {r.infer_response.id: floats(r.infer_response.raw_output_contents[0]) for r in client.stream(requests)}
            self.assertEqual(replies, {f"{stream}.{i}": [2.0 * i] * 4 for i in range(1000)})

        with concurrent.futures.ThreadPoolExecutor(3) as pool:
            for done in [pool.submit(run, i) for i in range(3)]:
                done.result()

    def test_binary_and_large_metadata(self):
        client = self.client(self.serve("--grpc-header-forward-pattern", ".*"))
        metadata = [("x-bin", bytes(range(256))), ("text", "a" * 4000), ("text", "again")]
        for _ in range(3):
            self.assertEqual(floats(client.ModelInfer(request(), metadata=metadata).raw_output_contents[0]), [2, 4, 6, 8])
        self.assertStatus(grpc.StatusCode.RESOURCE_EXHAUSTED, "received metadata size exceeds limit", client.ModelInfer,
                          request(), metadata=[("text", "a" * 20_000)])
        self.assertTrue(client.ServerReady().ready)

    def test_deadlines_and_cancellation(self):
        client = self.client(self.serve())
        for timeout in (0.0001, 0.001, 0.01):
            try:
                client.ModelInfer(request(), timeout=timeout)
            except grpc.RpcError as error:
                self.assertEqual(error.code(), grpc.StatusCode.DEADLINE_EXCEEDED)
        calls = [client.unary("ModelInfer").future(request([0.0] * 100_000, (1, 100_000))) for _ in range(200)]
        for call in calls[::2]:
            call.cancel()
        for call in calls[1::2]:
            self.assertEqual(len(call.result().raw_output_contents[0]), 400_000)

    def test_old_connections_are_left_without_an_error(self):
        server = self.serve("--grpc-max-connection-age", "300")
        client = self.client(server)
        stop = time.monotonic() + 3
        stream_requests = threading.Event()

        def slow():
            yield request()
            stream_requests.wait(2)
            yield request()

        stream = client.stream(slow())
        next(stream)
        calls = 0
        while time.monotonic() < stop:
            client.ModelInfer(request())
            calls += 1
        stream_requests.set()
        self.assertEqual(len(list(stream)), 1)
        self.assertGreater(calls, 10)
        self.assertEqual(server.stop(), 0)

    def test_certificates_change_on_sighup_and_clients_must_speak_http2(self):
        folder = grpc_test.Process.certificates(self)
        for kind in ("pem", "key"):
            shutil.copy(folder / f"server.{kind}", folder / f"used.{kind}")
        (folder / "used.key").chmod(0o600)
        server = self.serve("--grpc-use-ssl", "true", "--grpc-server-cert", str(folder / "used.pem"), "--grpc-server-key", str(folder / "used.key"))

        def subject(*protocols):
            context = ssl.create_default_context(cafile=folder / "ca.pem")
            context.check_hostname = False
            context.set_alpn_protocols(protocols)
            with socket.create_connection((HOST, server.grpc), timeout=10) as plain:
                with context.wrap_socket(plain) as s:
                    self.assertEqual(s.selected_alpn_protocol(), "h2")
                    return dict(pair[0] for pair in s.getpeercert()["subject"])["commonName"]

        self.assertEqual(subject("http/1.1", "h2"), "server")
        with self.assertRaises(ssl.SSLError):
            subject("http/1.1")
        for kind in ("pem", "key"):
            shutil.copy(folder / f"client.{kind}", folder / f"used.{kind}")
        server.process.send_signal(signal.SIGHUP)
        deadline = time.monotonic() + 10
        while subject("h2") != "client" and time.monotonic() < deadline:
            time.sleep(0.05)
        self.assertEqual(subject("h2"), "client")
        self.assertEqual(server.stop(), 0)

    def test_h2load(self):
        server = self.serve()
        message = request().SerializeToString()
        with tempfile.NamedTemporaryFile() as body:
            body.write(b"\0" + len(message).to_bytes(4, "big") + message)
            body.flush()
            command = ["h2load", "-n", "4000", "-c", "8", "-m", "16", "-d", body.name, "-H", "content-type: application/grpc",
                       "-H", "te: trailers", f"http://{HOST}:{server.grpc}{SERVICE}ModelInfer"]
            text = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout
        self.assertRegex(text, "4000 succeeded, 0 failed, 0 errored, 0 timeout")
        sizes = re.search(r"traffic: .* \((\d+)\) total, .* \((\d+)\) headers.* \((\d+)\) data", text)
        self.assertGreater(int(sizes[3]), 4000 * 20)
        stats = self.client(server).ModelStatistics(name="double").model_stats[0]
        self.assertGreaterEqual(stats.inference_count, 4000)

    def test_many_idle_connections_cost_little(self):
        server = self.serve()
        self.client(server).ModelInfer(request())
        before = server.rss()
        hello = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\x04\0\0\0\0\0"
        idle = [socket.create_connection((HOST, server.grpc)) for _ in range(500)]
        for s in idle:
            s.sendall(hello)
        for s in idle:
            self.assertGreater(len(s.recv(1000)), 9)
        self.assertLess((server.rss() - before) / len(idle), 48 << 10)
        for s in idle:
            s.close()
        self.assertTrue(self.client(server).ServerReady().ready)

    def test_one_connection_more_than_allowed(self):
        server = self.serve("--grpc-max-connections", "1")
        first = self.client(server)
        self.assertTrue(first.ServerReady().ready)
        second = self.client(server, **{"grpc.use_local_subchannel_pool": 1})
        self.assertStatus(grpc.StatusCode.UNAVAILABLE, "", second.ServerReady, timeout=5)
        self.assertTrue(first.ServerReady().ready)


if __name__ == "__main__":
    server_test.DUNLIN = sys.argv[1]
    unittest.main(argv=[sys.argv[0], *sys.argv[2:]])
