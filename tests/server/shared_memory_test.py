#!/usr/bin/python3
"""System shared memory over HTTP and gRPC: regions, tensors in them, and what is refused in which words.

    tests/server/shared_memory_test.py DUNLIN [unittest options]
"""

import json
import os
import pathlib
import struct
import sys
import threading
import time
import unittest

import grpc

import grpc_test
import server_test
from grpc_test import Client, pb
from http_protocol_test import Served, identity_model
from server_test import add_model, onnx, request_json

HTTP_OF = {
    grpc.StatusCode.INVALID_ARGUMENT: 400,
    grpc.StatusCode.ALREADY_EXISTS: 400,
    grpc.StatusCode.NOT_FOUND: 404,
    grpc.StatusCode.INTERNAL: 500,
    grpc.StatusCode.UNAVAILABLE: 503,
}


def slow_model(rows=1024, size=512, layers=60):
    """y = x, by way of many products with the identity matrix."""
    identity = b"".join(struct.pack(f"<{size}f", *(float(i == j) for j in range(size))) for i in range(size))
    names = ["x", *(f"h{i}" for i in range(layers - 1)), "y"]
    nodes = [onnx.node("MatMul", [a, "w"], [b], name=b) for a, b in zip(names, names[1:])]
    ports = [onnx.value(name, onnx.tensor_type(onnx.FLOAT, [rows, size])) for name in ("x", "y")]
    return onnx.model(nodes, ports[:1], ports[1:], initializers=[onnx.tensor("w", onnx.FLOAT, [size, size], identity)])


class Refused(Exception):
    """What either protocol answered: its status as the other's table has it, and the words."""


class OverHttp:
    def __init__(self, server):
        self.server = server

    def _ask(self, method, path, body=None):
        status, _, reply = self.server.ask(method, path, json.dumps(body) if body is not None else None)
        if status != 200:
            raise Refused(status, json.loads(reply)["error"])
        return json.loads(reply) if reply else None

    def _path(self, name, action, kind="system"):
        return f"/v2/{kind}sharedmemory" + (f"/region/{name}" if name else "") + "/" + action

    def register(self, name, key, byte_size, offset=0):
        self._ask("POST", self._path(name, "register"), {"key": key, "offset": offset, "byte_size": byte_size})

    def unregister(self, name=""):
        self._ask("POST", self._path(name, "unregister"))

    def status(self, name=""):
        return {r["name"]: (r["key"], r["offset"], r["byte_size"]) for r in self._ask("GET", self._path(name, "status"))}

    def infer(self, model, inputs, outputs=()):
        """Each (name, datatype, shape, where or bytes), (name, where); where is (region, size, offset) or None."""
        def place(where):
            return {"shared_memory_region": where[0], "shared_memory_byte_size": where[1], "shared_memory_offset": where[2]}
        header = {"inputs": [], "outputs": []}
        body = b""
        for name, datatype, shape, data in inputs:
            raw = isinstance(data, bytes)
            body += data if raw else b""
            parameters = {"binary_data_size": len(data)} if raw else place(data)
            header["inputs"].append({"name": name, "datatype": datatype, "shape": shape, "parameters": parameters})
        for name, where in outputs:
            header["outputs"].append({"name": name, "parameters": place(where) if where else {"binary_data": True}})
        head = json.dumps(header).encode()
        status, headers, reply = self.server.ask("POST", f"/v2/models/{model}/infer", head + body,
                                                 {"Inference-Header-Content-Length": str(len(head))})
        if status != 200:
            raise Refused(status, json.loads(reply)["error"])
        return reply[int(headers.get("inference-header-content-length", len(reply))):]


class OverGrpc:
    def __init__(self, server):
        self.client = Client(server.grpc)

    def _call(self, method, request):
        try:
            return getattr(self.client, method)(request)
        except grpc.RpcError as e:
            raise Refused(HTTP_OF[e.code()], e.details()) from None

    def register(self, name, key, byte_size, offset=0):
        self._call("SystemSharedMemoryRegister",
                   pb.SystemSharedMemoryRegisterRequest(name=name, key=key, offset=offset, byte_size=byte_size))

    def unregister(self, name=""):
        self._call("SystemSharedMemoryUnregister", pb.SystemSharedMemoryUnregisterRequest(name=name))

    def status(self, name=""):
        regions = self._call("SystemSharedMemoryStatus", pb.SystemSharedMemoryStatusRequest(name=name)).regions
        return {n: (r.key, r.offset, r.byte_size) for n, r in regions.items()}

    def infer(self, model, inputs, outputs=()):
        request = pb.ModelInferRequest(model_name=model)
        def place(tensor, where):
            tensor.parameters["shared_memory_region"].string_param = where[0]
            tensor.parameters["shared_memory_byte_size"].int64_param = where[1]
            tensor.parameters["shared_memory_offset"].int64_param = where[2]
        for name, datatype, shape, data in inputs:
            tensor = request.inputs.add(name=name, datatype=datatype, shape=shape)
            if isinstance(data, bytes):
                request.raw_input_contents.append(data)
            else:
                place(tensor, data)
        for name, where in outputs:
            tensor = request.outputs.add(name=name)
            if where:
                place(tensor, where)
        return b"".join(self._call("ModelInfer", request).raw_output_contents)


def over_both(test):
    def run(self):
        for name, protocol in self.protocols.items():
            with self.subTest(protocol=name):
                protocol.unregister()
                test(self, protocol)
    return run


class SharedMemory(Served):
    FLAGS = ("--allow-client-shm=true",)
    MODELS = {
        "double": add_model(),
        "wide": identity_model(onnx.FLOAT, ["N", "M"]),
        "text": identity_model(onnx.STRING, ["N", 2]),
        "slow": slow_model(),
    }

    def setUp(self):
        super().setUp()
        self.protocols = {"HTTP": OverHttp(self.server), "gRPC": OverGrpc(self.server)}
        self.addCleanup(self.protocols["gRPC"].client.channel.close)
        self.addCleanup(self.protocols["HTTP"].unregister)

    def object(self, name, content):
        """An object in shared memory: its path and its key."""
        path = pathlib.Path("/dev/shm") / f"dunlin_test_{os.getpid()}_{name}"
        path.write_bytes(content)
        self.addCleanup(path.unlink, missing_ok=True)
        return path, "/" + path.name

    def refuse(self, status, words, call, *args, **more):
        with self.assertRaises(Refused) as caught:
            call(*args, **more)
        self.assertEqual(caught.exception.args[0], status, caught.exception.args)
        self.assertIn(words, caught.exception.args[1])

    @over_both
    def test_regions_come_and_go(self, p):
        _, key = self.object("a", bytes(64))
        p.unregister("a")  # before there is one: no error
        p.register("a", key, 64)
        p.register("b", key[1:], 16, offset=48)
        expected = {"a": (key, 0, 64), "b": (key[1:], 48, 16)}
        for other in self.protocols.values():
            self.assertEqual(other.status(), expected)
        self.assertEqual(p.status("b"), {"b": expected["b"]})
        self.refuse(404, "Unable to find system shared memory region: 'c'", p.status, "c")
        p.unregister("a")
        p.unregister("a")
        self.assertEqual(list(p.status()), ["b"])
        p.register("a", key, 8)
        p.unregister()
        self.assertEqual(p.status(), {})

    @over_both
    def test_a_name_is_registered_once(self, p):
        _, key = self.object("once", bytes(64))
        p.register("r", key, 64)
        self.refuse(400, "shared memory region 'r' already in manager", p.register, "r", key, 32)
        self.assertEqual(p.status(), {"r": (key, 0, 64)})

    @over_both
    def test_keys_that_are_no_object(self, p):
        self.refuse(500, "Unable to open shared memory region: '/dunlin_test_none'", p.register, "r", "/dunlin_test_none", 8)
        for key in ("", "/", "/../etc/passwd", "/a/b", "..", "/" + "x" * 300):
            self.refuse(400, "failed to register shared memory region 'r': the key", p.register, "r", key, 8)
        self.refuse(400, "reserved prefix 'triton_python_backend_shm_region_'", p.register, "r",
                    "/triton_python_backend_shm_region_1", 8)
        self.assertEqual(p.status(), {})

    @over_both
    def test_regions_lie_inside_their_object(self, p):
        _, key = self.object("small", bytes(64))
        for size, offset in ((65, 0), (64, 1), (1, 64), (2**63, 0), (2**64 - 1, 1), (1, 2**64 - 1), (0, 0)):
            self.refuse(400, "failed to register shared memory region 'r': invalid args", p.register, "r", key, size, offset)
        p.register("r", key, 1, 63)

    @over_both
    def test_inputs_and_outputs(self, p):
        path, key = self.object("io", struct.pack("<4f", 1, 2, 3, 4) + bytes(48))
        x = lambda data: [("x", "FP32", [1, 4], data)]
        doubled = struct.pack("<4f", 2, 4, 6, 8)
        path.write_bytes(struct.pack("<4f", 1, 2, 3, 4) + bytes(48))
        p.register("r", key, 64)
        self.assertEqual(p.infer("double", x(("r", 16, 0)), [("y", None)]), doubled)
        self.assertEqual(p.infer("double", x(("r", 16, 0)), [("y", ("r", 16, 16))]), b"")
        self.assertEqual(path.read_bytes()[16:32], doubled)
        # A region may be larger than the result, and in a place that only a page's offset reaches.
        self.assertEqual(p.infer("double", x(doubled), [("y", ("r", 24, 40))]), b"")
        self.assertEqual(path.read_bytes()[40:56], struct.pack("<4f", 4, 8, 12, 16))
        self.assertEqual(path.read_bytes()[56:], bytes(8))

    @over_both
    def test_large_tensors_at_odd_offsets(self, p):
        values = struct.pack("<300000f", *range(300_000))
        path, key = self.object("large", bytes(4100) + values + bytes(len(values)))
        p.register("in", key, len(values), offset=4100)
        p.register("out", key, len(values), offset=4100 + len(values))
        shape = [3, 100_000]
        self.assertEqual(p.infer("wide", [("x", "FP32", shape, ("in", len(values), 0))], [("y", None)]), values)
        p.infer("wide", [("x", "FP32", shape, ("in", len(values), 0))], [("y", ("out", len(values), 0))])
        self.assertEqual(path.read_bytes()[4100 + len(values):], values)

    @over_both
    def test_text(self, p):
        strings = b"".join(struct.pack("<I", len(s)) + s for s in (b"a", b"\xff\0b"))
        path, key = self.object("text", strings + bytes(64))
        p.register("r", key, len(strings) + 64)
        p.infer("text", [("x", "BYTES", [1, 2], ("r", len(strings), 0))], [("y", ("r", 40, len(strings)))])
        self.assertEqual(path.read_bytes()[len(strings):2 * len(strings)], strings)
        self.refuse(500, "shared memory size specified with the request for output 'y' (11 bytes) should be at least 12 bytes to "
                    "hold the results", p.infer, "text", [("x", "BYTES", [1, 2], strings)], [("y", ("r", 11, 0))])

    @over_both
    def test_ranges_that_do_not_fit(self, p):
        _, key = self.object("ranges", bytes(64))
        x = lambda where: [("x", "FP32", [1, 4], where)]
        p.register("r", key, 64)
        self.refuse(404, "Unable to find shared memory region: 's'", p.infer, "double", x(("s", 16, 0)))
        self.refuse(400, "Invalid offset for shared memory region: 'r'", p.infer, "double", x(("r", 16, 64)))
        self.refuse(400, "Invalid offset + byte size for shared memory region: 'r'", p.infer, "double", x(("r", 16, 52)))
        self.refuse(400, "Invalid offset + byte size for shared memory region: 'r'", p.infer, "double", x(("r", 65, 0)))
        self.refuse(400, "input byte size mismatch for input 'x' for model 'double'. Expected 16, got 32",
                    p.infer, "double", x(("r", 32, 0)))
        self.refuse(500, "shared memory size specified with the request for output 'y' (8 bytes) should be at least 16 bytes to "
                    "hold the results", p.infer, "double", x(("r", 16, 0)), [("y", ("r", 8, 0))])
        self.refuse(400, "Invalid offset for shared memory region: 'r'", p.infer, "double", x(("r", 16, 0)), [("y", ("r", 16, 64))])

    def test_numbers_that_only_json_can_carry(self):
        _, key = self.object("numbers", bytes(64))
        x = lambda where: [("x", "FP32", [1, 4], where)]
        http = self.protocols["HTTP"]
        http.register("r", key, 64)
        self.refuse(400, "Invalid offset for shared memory region: 'r'", http.infer, "double", x(("r", 16, 2**64 - 32)))
        self.refuse(400, "Integer overflow detected: byte_size", http.infer, "double", x(("r", 2**64 - 8, 16)))

    def test_a_region_and_other_data_do_not_mix(self):
        _, key = self.object("mixed", bytes(64))
        place = {"shared_memory_region": "r", "shared_memory_byte_size": 16}
        self.protocols["HTTP"].register("r", key, 64)
        tensor = lambda **p: {"name": "x", "shape": [1, 4], "datatype": "FP32", "parameters": p}
        ask = lambda **body: self.server.ask("POST", "/v2/models/double/infer", json.dumps(body))
        self.assertError(ask(inputs=[tensor(**place, binary_data_size=16)]), 400, "must not specify 'binary_data_size' when using shared memory")
        self.assertError(ask(inputs=[tensor(shared_memory_region="r")]), 400, "Unable to parse 'shared_memory_byte_size'")
        output = {"name": "y", "parameters": {**place, "classification": 1}}
        self.assertError(ask(inputs=[tensor(**place)], outputs=[output]), 400, "with 'classification'")
        request = pb.ModelInferRequest(model_name="double")
        shared = request.inputs.add(name="x", datatype="FP32", shape=[1, 4])
        shared.parameters["shared_memory_region"].string_param = "r"
        shared.parameters["shared_memory_byte_size"].int64_param = 16
        shared.contents.fp32_contents.append(1)
        with self.assertRaises(grpc.RpcError) as caught:
            self.protocols["gRPC"].client.ModelInfer(request)
        self.assertIn("unexpected 'content' provided when using shared memory for input tensor 'x' for model 'double'", caught.exception.details())

    def test_objects_may_lose_their_name(self):
        path, key = self.object("unlinked", struct.pack("<4f", 1, 2, 3, 4))
        p = self.protocols["HTTP"]
        p.register("r", key, 16)
        path.unlink()
        self.assertEqual(p.infer("double", [("x", "FP32", [1, 4], ("r", 16, 0))], [("y", None)]), struct.pack("<4f", 2, 4, 6, 8))

    @over_both
    def test_a_region_in_use_goes_with_its_last_request(self, p):
        values = struct.pack("<524288f", *([1.0] * 524_288))
        _, key = self.object("busy", values)
        answers = []
        def ask():
            answers.append(p.infer("slow", [("x", "FP32", [1024, 512], ("r", len(values), 0))], [("y", None)]))
        for patience in range(1, 20):
            p.register("r", key, len(values))
            asking = threading.Thread(target=ask)
            asking.start()
            time.sleep(0.05 * patience)  # too short on a busy machine: again
            p.unregister("r")
            kept = "r" in p.status()
            asking.join(60)
            if kept:
                break
        self.assertTrue(kept, "the region was not in use, or went all the same")
        self.assertEqual(answers[-1], values)
        self.assertEqual(p.status(), {})

    def test_cuda_is_refused_by_name(self):
        ask = lambda path: self.server.ask("POST", "/v2/cudasharedmemory" + path, "{}")
        self.assertError(ask("/region/r/register"), 400, "failed to register CUDA shared memory region: 'r', GPUs not supported")
        self.assertError(ask("/register"), 400, "'region name' is necessary to register cuda shared memory region")
        self.assertError(self.server.ask("GET", "/v2/cudasharedmemory/region/r/status"), 404, "Unable to find cuda shared memory region: 'r'")
        self.assertEqual(self.get("/v2/cudasharedmemory/status"), [])
        self.assertEqual(ask("/unregister")[0], 200)

    def test_requests_that_say_too_little(self):
        ask = lambda path, body="{}": self.server.ask("POST", "/v2/systemsharedmemory" + path, body)
        self.assertError(ask("/register"), 400, "'region name' is necessary to register system shared memory region")
        self.assertError(ask("/region/r/register"), 400, "Shared memory register request has no 'key' field")
        self.assertError(ask("/region/r/register", '{"key":"/k"}'), 400, "Shared memory register request has no 'byte_size' field")
        self.assertError(ask("/region/r/register", '{"key":"/k","byte_size":-1}'), 400, "Unable to parse 'byte_size'")
        self.assertError(ask("/region/r/register", "{"), 400, "failed to parse the request JSON buffer")
        self.assertError(self.server.ask("GET", "/v2/systemsharedmemory/region/r/register"), 405, "Method Not Allowed")


class NotAllowed(Served):
    MODELS = {"double": add_model()}

    def test_it_is_off_unless_allowed(self):
        words = "Start the server with '--allow-client-shm=true' to enable."
        for p in (OverHttp(self.server), OverGrpc(self.server)):
            for call, *args in ((p.register, "r", "/k", 8), (p.infer, "double", [("x", "FP32", [1, 4], ("r", 16, 0))])):
                with self.assertRaises(Refused) as caught:
                    call(*args)
                self.assertEqual(caught.exception.args[0], 503)
                self.assertIn(words, caught.exception.args[1])
        self.assertEqual(self.post("/v2/models/double/infer", request_json())["outputs"][0]["data"], [2, 4, 6, 8])


if __name__ == "__main__":
    server_test.DUNLIN = sys.argv[1]
    unittest.main(argv=[sys.argv[0], *sys.argv[2:]])
