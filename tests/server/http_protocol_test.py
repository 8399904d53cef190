#!/usr/bin/env python3
"""The HTTP protocol's routes and words, by raw sockets against the real process.

    tests/server/http_protocol_test.py DUNLIN [unittest options]
"""

import gzip
import json
import pathlib
import socket
import struct
import sys
import tempfile
import unittest
import zlib

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
import server_test as base  # noqa: E402
from server_test import HOST, Case, Server, add_model, onnx, request_json  # noqa: E402


def identity_model(dtype, dims):
    port = [onnx.value(name, onnx.tensor_type(dtype, list(dims))) for name in ("x", "y")]
    return onnx.model([onnx.node("Identity", ["x"], ["y"])], port[:1], port[1:])


def sum_model():
    ports = [onnx.value(name, onnx.tensor_type(onnx.FLOAT, ["N", 2])) for name in ("a", "b", "s", "d")]
    nodes = [onnx.node("Add", ["a", "b"], ["s"]), onnx.node("Sub", ["a", "b"], ["d"])]
    return onnx.model(nodes, ports[:2], ports[2:])


class Replies:
    """A connection on which replies are read one by one, without a library in between."""

    def __init__(self, port, timeout=20):
        self.socket = socket.create_connection((HOST, port), timeout=timeout)
        self.buffer = b""

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()

    def send(self, data):
        self.socket.sendall(data)

    def _more(self):
        piece = self.socket.recv(65536)
        self.buffer += piece
        return bool(piece)

    def receive(self, body=True):
        """Status, headers, body; None at the end of the connection."""
        while b"\r\n\r\n" not in self.buffer:
            if not self._more():
                return None
        head, _, self.buffer = self.buffer.partition(b"\r\n\r\n")
        lines = head.split(b"\r\n")
        headers = {k.strip().lower().decode(): v.strip().decode() for k, _, v in (l.partition(b":") for l in lines[1:])}
        length = int(headers.get("content-length", 0)) if body else 0
        while len(self.buffer) < length:
            if not self._more():
                return None
        content, self.buffer = self.buffer[:length], self.buffer[length:]
        return int(lines[0].split()[1]), headers, content

    def ended(self):
        return not self.buffer and not self._more()


def post(path, body=b"", **headers):
    body = body.encode() if isinstance(body, str) else body
    lines = [f"{k.replace('_', '-')}: {v}" for k, v in headers.items()]
    return "\r\n".join([f"POST {path} HTTP/1.1", "Host: x", f"Content-Length: {len(body)}", *lines, "", ""]).encode() + body


class Served(Case):
    """One server for all tests of the class."""

    FLAGS = ()
    MODELS = {}

    @classmethod
    def setUpClass(cls):
        folder = tempfile.TemporaryDirectory()
        cls.addClassCleanup(folder.cleanup)
        for name, model in cls.MODELS.items():
            path = pathlib.Path(folder.name) / name / "1"
            path.mkdir(parents=True)
            (path / "model.onnx").write_bytes(model)
        cls.server = Server(folder.name, *cls.FLAGS)
        cls.addClassCleanup(cls.server.kill)

    def get(self, path, status=200):
        answer = self.server.ask("GET", path)
        self.assertEqual(answer[0], status, answer)
        return json.loads(answer[2]) if answer[2] else None

    def post(self, path, body="", status=200, headers=None):
        body = json.dumps(body) if isinstance(body, dict) else body
        answer = self.server.ask("POST", path, body, headers)
        self.assertEqual(answer[0], status, answer)
        if answer[1].get("content-type") == "application/json":
            return json.loads(answer[2])
        return answer[2]


class Generate(Served):
    MODELS = {
        "text": identity_model(onnx.STRING, ["N", 1]),
        "numbers": identity_model(onnx.FLOAT, ["N", 4]),
        "sum": sum_model(),
    }

    def test_inputs_and_outputs_are_keys(self):
        reply = self.post("/v2/models/text/generate", {"x": "hello", "id": "7", "parameters": {"temperature": 0.5}, "stream": False})
        self.assertEqual(reply, {"id": "7", "model_name": "text", "model_version": "1", "y": "hello"})
        self.assertEqual(self.post("/v2/models/text/generate", {"parameters": {"x": "inside"}})["y"], "inside")
        self.assertEqual(self.post("/v2/models/numbers/versions/1/generate", {"x": [1, 2, 3, 4]})["y"], [1.0, 2.0, 3.0, 4.0])
        self.assertEqual(self.post("/v2/models/text/generate", {"x": ["a", "b"]})["y"], ["a", "b"])

    def test_a_stream_is_one_event(self):
        status, headers, body = self.server.ask("POST", "/v2/models/text/generate_stream", json.dumps({"x": "hi"}))
        self.assertEqual((status, headers["content-type"]), (200, "text/event-stream; charset=utf-8"))
        self.assertTrue(body.startswith(b"data: ") and body.endswith(b"\n\n"))
        self.assertEqual(json.loads(body[6:])["y"], "hi")

    def test_errors(self):
        ask = lambda body, path="/v2/models/numbers/generate", **h: self.server.ask("POST", path, body, h)
        self.assertError(ask('{"x":[1,2,3]}'), 400, "The schema can not convert input 'x' to tensor with proper shape")
        self.assertError(ask('{"parameters":3}'), 400, "Expected JSON object for keyword: 'parameters'")
        self.assertError(ask('{"x":[1,2,3,4],"k":[1]}'), 400, "parameter 'k' has invalid type")
        self.assertError(ask('{"x":[1,2,3,4],"triton_x":1}'), 400, "parameter keys starting with 'triton_' are reserved")
        self.assertError(ask("{}"), 400, "expected 1 inputs but got 0 inputs for model 'numbers'")
        self.assertError(ask("{"), 400, "failed to parse the request JSON buffer")
        self.assertError(ask("[]"), 400, "failed to parse the request JSON buffer")
        self.assertError(ask("{}", "/v2/models/none/generate"), 404, "Request for unknown model: 'none' is not found")
        self.assertError(ask("{}", "/v2/models/none/generate_stream"), 404, "Request for unknown model")
        self.assertError(ask(gzip.compress(b"{}"), **{"Content-Encoding": "gzip"}), 400, "Unsupported content-encoding, only 'identity'")


class Predict(Served):
    MODELS = {"double": add_model(), "text": identity_model(onnx.STRING, ["N", 1]), "sum": sum_model()}

    def test_rows_and_columns(self):
        ask = lambda body, model="double": self.post(f"/v1/models/{model}:predict", body)
        rows = [[1, 2, 3, 4], [5, 6, 7, 8]]
        self.assertEqual(ask({"instances": rows}), {"predictions": [[2.0, 4.0, 6.0, 8.0], [10.0, 12.0, 14.0, 16.0]]})
        self.assertEqual(ask({"inputs": rows})["outputs"][1], [10.0, 12.0, 14.0, 16.0])
        self.assertEqual(ask({"inputs": {"x": rows}, "signature_name": "serving_default"})["outputs"][0], [2.0, 4.0, 6.0, 8.0])
        self.assertEqual(ask({"instances": [{"x": rows[0]}]}), {"predictions": [[2.0, 4.0, 6.0, 8.0]]})
        both = ask({"instances": [{"a": [1, 2], "b": [3, 4]}]}, "sum")
        self.assertEqual(both, {"predictions": [{"s": [4.0, 6.0], "d": [-2.0, -2.0]}]})
        columns = ask({"inputs": {"a": [[1, 2]], "b": [[3, 4]]}}, "sum")
        self.assertEqual(columns, {"outputs": {"s": [[4.0, 6.0]], "d": [[-2.0, -2.0]]}})
        self.assertEqual(ask({"instances": ["a", {"b64": "Yg=="}]}, "text"), {"predictions": [["a"], ["b"]]})
        self.assertEqual(self.post("/v1/models/double/versions/1:predict", {"instances": [rows[0]]})["predictions"][0][3], 8.0)

    def test_models(self):
        self.assertEqual(self.get("/v1/models"), {"models": ["double", "sum", "text"]})
        state = self.get("/v1/models/double")
        self.assertEqual((state["name"], state["ready"]), ("double", True))
        available = [{"version": "1", "state": "AVAILABLE", "status": {"error_code": "OK", "error_message": ""}}]
        self.assertEqual(state["model_version_status"], available)
        self.assertEqual(self.get("/v1/models/double/versions/1")["model_version_status"], available)
        meta = self.get("/v1/models/double/metadata")
        signature = meta["metadata"]["signature_def"]["signature_def"]["serving_default"]
        self.assertEqual(signature["inputs"]["x"]["dtype"], "DT_FLOAT")
        self.assertEqual([d["size"] for d in signature["inputs"]["x"]["tensor_shape"]["dim"]], ["-1", "4"])

    def test_errors(self):
        ask = lambda body, path="/v1/models/double:predict": self.server.ask("POST", path, body)
        self.assertError(ask("{}"), 400, "Unable to parse 'instances'")
        self.assertError(ask('{"instances":[],"inputs":[]}'), 400, "both 'instances' and 'inputs'")
        self.assertError(ask('{"instances":[]}'), 400, "there are none")
        self.assertError(ask('{"instances":[[1,2,3,4],[1,2,3]]}'), 400, "do not all have shape [4]")
        self.assertError(ask('{"instances":[[1,2],[3],[4,5,6]]}'), 400, "do not all have shape")
        self.assertError(ask('{"instances":[{"z":1}]}'), 400, "does not have input 'x'")
        self.assertError(ask('{"instances":[[1,2,3]]}'), 400, "unexpected shape for input 'x'")
        self.assertError(ask("{}", "/v1/models/double:classify"), 501, "only ':predict' is supported")
        self.assertError(ask("{}", "/v1/models/double/labels/stable:predict"), 501, "version labels are not supported")
        self.assertError(ask("{}", "/v1/models/none:predict"), 404, "Request for unknown model: 'none' is not found")
        self.assertError(self.server.ask("GET", "/v1/models/double:predict"), 405, "Method Not Allowed")
        self.assertError(self.server.ask("GET", "/v1/models/none"), 404, "unknown model")


class Wire(Served):
    MODELS = {"double": add_model(), "bytes": identity_model(onnx.STRING, ["N", 1])}

    def test_pipelined_requests_leave_together_and_in_order(self):
        body = [request_json(id=str(i)) for i in range(300)]
        with Replies(self.server.http) as c:
            c.send(b"".join(post("/v2/models/double/infer", b) for b in body))
            for i in range(300):
                status, _, reply = c.receive()
                self.assertEqual((status, json.loads(reply)["id"]), (200, str(i)))

    def test_head_and_options(self):
        with Replies(self.server.http) as c:
            c.send(b"HEAD /v2 HTTP/1.1\r\n\r\nHEAD /nowhere HTTP/1.1\r\n\r\nOPTIONS /v2 HTTP/1.1\r\n\r\nGET /v2/health/live HTTP/1.1\r\n\r\n")
            status, headers, _ = c.receive(body=False)
            self.assertEqual(status, 200)
            self.assertGreater(int(headers["content-length"]), 10)
            self.assertEqual(c.receive(body=False)[0], 404)
            self.assertEqual(c.receive()[::2], (405, b'{"error":"Method Not Allowed"}'))
            self.assertEqual(c.receive()[0], 200)

    def test_old_clients_and_closing(self):
        with Replies(self.server.http) as c:
            c.send(b"GET /v2/health/live HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
            self.assertEqual(c.receive()[1]["connection"], "keep-alive")
            c.send(b"GET /v2/health/live HTTP/1.0\r\n\r\n")
            self.assertEqual(c.receive()[1]["connection"], "close")
            self.assertTrue(c.ended())

    def test_line_breaks_between_requests_are_skipped(self):
        with Replies(self.server.http) as c:
            c.send(post("/v2/models/double/infer", request_json()) + b"\r\n" + b"\r\nGET /v2 HTTP/1.1\r\n\r\n")
            self.assertEqual([c.receive()[0], c.receive()[0]], [200, 200])

    def test_heads_and_bodies_byte_by_byte(self):
        head = json.dumps({"inputs": [{"name": "x", "shape": [1, 4], "datatype": "FP32", "parameters": {"binary_data_size": 16}}], "parameters": {"binary_data_output": True}}).encode()
        body = head + struct.pack("<4f", 1, 2, 3, 4)
        request = post("/v2/models/double/infer", body, Inference_Header_Content_Length=len(head))
        with Replies(self.server.http) as c:
            for i in range(len(request)):
                c.send(request[i : i + 1])
            c.send(request[:200])
            c.send(request[200:])
            for _ in range(2):
                status, headers, reply = c.receive()
                self.assertEqual(status, 200, reply)
                self.assertEqual(struct.unpack("<4f", reply[int(headers["inference-header-content-length"]) :]), (2.0, 4.0, 6.0, 8.0))

    def test_large_tensors_both_ways(self):
        rows = 65536
        head = json.dumps({"inputs": [{"name": "x", "shape": [4, 4], "datatype": "FP32", "parameters": {"binary_data_size": 64}}]}).encode()
        self.assertEqual(self.server.ask("POST", "/v2/models/double/infer", head + b"\0" * 64, {"Inference-Header-Content-Length": str(len(head))})[0], 200)
        text = "z" * rows * 20
        head = json.dumps({"inputs": [{"name": "x", "shape": [1, 1], "datatype": "BYTES", "parameters": {"binary_data_size": len(text) + 4}}], "parameters": {"binary_data_output": True}}).encode()
        body = head + struct.pack("<I", len(text)) + text.encode()
        status, headers, reply = self.server.ask("POST", "/v2/models/bytes/infer", body, {"Inference-Header-Content-Length": str(len(head))})
        self.assertEqual(status, 200)
        self.assertEqual(reply[int(headers["inference-header-content-length"]) + 4 :], text.encode())

    def test_chunks(self):
        head = b"POST /v2/models/double/infer HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"
        body = request_json().encode()
        with Replies(self.server.http) as c:
            c.send(head + b"".join(b"1;a=b\r\n" + body[i : i + 1] + b"\r\n" for i in range(len(body))) + b"0\r\nX-Trailer: 1\r\n\r\n")
            self.assertEqual(c.receive()[0], 200)
            c.send(head + b"1\r\n \r\n" * 65536)
            c.send(b"1\r\n \r\n" * 10)
            status, headers, reply = c.receive()
            self.assertEqual((status, headers["connection"]), (400, "close"))
            self.assertIn(b"chunks", reply)
        for bad in (b"zz\r\n", b"-1\r\n", b"1\r\nabcdef\r\n", b"1" + b"0" * 40 + b"\r\n", b"1;" + b"a" * 70000):
            with Replies(self.server.http) as c:
                c.send(head + bad)
                status, headers, _ = c.receive()
                self.assertIn(status, (400, 413))
                self.assertEqual(headers["connection"], "close")

    def test_requests_that_two_servers_could_read_differently_are_refused(self):
        for lines in (
            b"Content-Length: 3\r\nTransfer-Encoding: chunked",
            b"Content-Length: 3\r\nContent-Length: 4",
            b"Transfer-Encoding: gzip, chunked",
            b"Transfer-Encoding: identity",
            b"Content-Length: +3",
            b"Content-Length : 3",
            b"Content-Length: 0x3",
        ):
            with Replies(self.server.http) as c:
                c.send(b"POST /v2/models/double/infer HTTP/1.1\r\n" + lines + b"\r\n\r\nabc")
                status, headers, _ = c.receive()
                self.assertIn(status, (400, 501), lines)
                self.assertEqual(headers["connection"], "close", lines)

    def test_compression_both_ways(self):
        head = json.dumps({"inputs": [{"name": "x", "shape": [1, 4], "datatype": "FP32", "parameters": {"binary_data_size": 16}}], "outputs": [{"name": "y", "parameters": {"binary_data": True}}]}).encode()
        body = head + struct.pack("<4f", 1, 2, 3, 4)
        for name, pack, unpack in (("gzip", gzip.compress, gzip.decompress), ("deflate", zlib.compress, zlib.decompress)):
            answer = self.server.ask("POST", "/v2/models/double/infer", pack(body), {"Content-Encoding": name, "Accept-Encoding": name, "Inference-Header-Content-Length": str(len(head))})
            self.assertEqual((answer[0], answer[1]["content-encoding"]), (200, name))
            data = unpack(answer[2])[int(answer[1]["inference-header-content-length"]) :]
            self.assertEqual(struct.unpack("<4f", data), (2.0, 4.0, 6.0, 8.0))
        answer = self.server.ask("POST", "/v2/models/double/infer", body, {"Content-Encoding": "br"})
        self.assertError(answer, 501, "Unsupported compression type")
        self.assertEqual(answer[1]["accept-encoding"], "gzip, deflate")
        bomb = gzip.compress(b" " * (80 << 20), 9)
        self.assertError(self.server.ask("POST", "/v2/models/double/infer", bomb, {"Content-Encoding": "gzip"}), 400, "--http-max-input-size")
        self.assertError(self.server.ask("POST", "/v2/models/double/infer", gzip.compress(body)[:-9], {"Content-Encoding": "gzip"}), 400, "failed to decompress")

    def test_request_parameters(self):
        ask = lambda **p: self.server.ask("POST", "/v2/models/double/infer", request_json(parameters=p))
        self.assertEqual(ask(sequence_id=3, sequence_start=True, sequence_end=False, priority=0, timeout=10**7, custom=1.5, other="x", flag=True)[0], 200)
        self.assertEqual(ask(sequence_id="s")[0], 200)
        for key, value in (("sequence_id", 1.5), ("sequence_start", 1), ("sequence_end", "x"), ("priority", -1), ("timeout", "x"), ("binary_data_output", 1)):
            self.assertError(ask(**{key: value}), 400, f"Unable to parse '{key}'")
        self.assertError(ask(triton_x=1), 400, "parameter keys starting with 'triton_' are reserved for Triton usage and should not be specified.")
        self.assertError(ask(headers="x"), 400, "headers")
        self.assertError(ask(k=[1]), 400, "parameter 'k' has invalid type.")

    def test_limits_on_what_json_holds(self):
        ask = lambda body: self.server.ask("POST", "/v2/models/double/infer", body)
        tensor = '{"name":"x","shape":[0],"datatype":"FP32","data":[]}'
        self.assertError(ask('{"inputs":[' + ",".join([tensor] * 5000) + "]}"), 400, "Unable to parse 'inputs': more than 4096")
        self.assertError(ask('{"inputs":[],"outputs":[' + ",".join(['{"name":"y"}'] * 5000) + "]}"), 400, "Unable to parse 'outputs': more than 4096")
        self.assertError(ask("[" * 100000), 400, "failed to parse the request JSON buffer")

    def test_readers_that_do_not_read_hold_up_nobody(self):
        big = "a" * 200000
        request = post("/v2/models/bytes/infer", json.dumps({"inputs": [{"name": "x", "shape": [1, 1], "datatype": "BYTES", "data": [big]}]}))
        with socket.create_connection((HOST, self.server.http)) as s:
            s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            s.settimeout(0.5)
            try:
                for _ in range(200):
                    s.sendall(request)
            except socket.timeout:
                pass  # it takes no more of ours until we read
            else:
                self.fail("200 replies of 200 kB are buffered for a client that reads none")
            self.assertEqual(self.server.ask("POST", "/v2/models/double/infer", request_json())[0], 200)


if __name__ == "__main__":
    base.DUNLIN = sys.argv[1]
    unittest.main(argv=[sys.argv[0], *sys.argv[2:]])
