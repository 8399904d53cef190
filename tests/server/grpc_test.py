#!/usr/bin/python3
"""gRPC as its clients meet it: the real process, Debian's python3-grpcio, stubs of our own .proto files.

    tests/server/grpc_test.py DUNLIN [unittest options]
"""

import concurrent.futures
import os
import pathlib
import queue
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
import unittest

import grpc

import server_test
from server_test import HOST, ROOT, Case, Server, add_model

SERVICE = "/inference.GRPCInferenceService/"


def load_protos():
    folder = tempfile.mkdtemp()
    sources = [ROOT / "src" / "grpc", ROOT / "src" / "serve"]
    command = ["protoc", f"--python_out={folder}", *(f"-I{s}" for s in sources)]
    subprocess.run([*command, "inference.proto", "health.proto", "model_config.proto"], check=True)
    sys.path.insert(0, folder)
    import health_pb2
    import inference_pb2

    return inference_pb2, health_pb2


pb, health = load_protos()


class Client:
    """A channel and its methods by name: client.ModelReady(name="m")."""

    def __init__(self, port, channel=None, **options):
        options = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1), *options.items()]
        self.channel = channel or grpc.insecure_channel(f"{HOST}:{port}", options)

    def unary(self, name):
        return self.channel.unary_unary(
            SERVICE + name,
            request_serializer=getattr(pb, name + "Request").SerializeToString,
            response_deserializer=getattr(pb, name + "Response").FromString,
        )

    def __getattr__(self, name):
        method = self.unary(name)

        def call(request=None, *, timeout=30, metadata=None, compression=None, **fields):
            request = request or getattr(pb, name + "Request")(**fields)
            return method(request, timeout=timeout, metadata=metadata, compression=compression)

        return call

    def stream(self, requests, **options):
        method = self.channel.stream_stream(
            SERVICE + "ModelStreamInfer",
            request_serializer=pb.ModelInferRequest.SerializeToString,
            response_deserializer=pb.ModelStreamInferResponse.FromString,
        )
        return method(requests, timeout=30, **options)

    def health(self, service="", kind="Check"):
        make = self.channel.unary_unary if kind == "Check" else self.channel.unary_stream
        return make(
            "/grpc.health.v1.Health/" + kind,
            request_serializer=health.HealthCheckRequest.SerializeToString,
            response_deserializer=health.HealthCheckResponse.FromString,
        )(health.HealthCheckRequest(service=service), timeout=30)


def request(values=(1.0, 2.0, 3.0, 4.0), shape=(1, 4), model="double", raw=True, **fields):
    message = pb.ModelInferRequest(model_name=model, **fields)
    tensor = message.inputs.add(name="x", datatype="FP32", shape=shape)
    if raw:
        message.raw_input_contents.append(struct.pack(f"<{len(values)}f", *values))
    else:
        tensor.contents.fp32_contents.extend(values)
    return message


def floats(raw):
    return list(struct.unpack(f"<{len(raw) // 4}f", raw))


class GrpcCase(Case):
    def client(self, server, **options):
        client = Client(server.grpc, **options)
        self.addCleanup(client.channel.close)
        return client

    def assertStatus(self, code, message, call, *args, **fields):
        with self.assertRaises(grpc.RpcError) as caught:
            call(*args, **fields)
        self.assertEqual(caught.exception.code(), code, caught.exception.details())
        self.assertIn(message, caught.exception.details())


class Methods(GrpcCase):
    @classmethod
    def setUpClass(cls):
        folder = tempfile.TemporaryDirectory()
        cls.addClassCleanup(folder.cleanup)
        base = pathlib.Path(folder.name)
        (base / "double" / "1").mkdir(parents=True)
        (base / "double" / "1" / "model.onnx").write_bytes(add_model())
        (base / "double" / "config.pbtxt").write_text(
            'max_batch_size: 8 output [ { name: "y" data_type: TYPE_FP32 dims: 4 label_filename: "labels.txt" } ]'
        )
        (base / "double" / "labels.txt").write_text("one\ntwo\nthree\nfour\n")
        (base / "wide" / "2").mkdir(parents=True)
        (base / "wide" / "2" / "model.onnx").write_bytes(add_model(("N", "M")))
        (base / "wide" / "config.pbtxt").write_text("max_batch_size: 0")
        flags = ["--model-control-mode", "explicit", "--load-model", "double", "--load-model", "wide"]
        cls.server = Server(base, *flags, "--allow-client-shm", "true")
        cls.addClassCleanup(cls.server.kill)
        cls.client_ = Client(cls.server.grpc)
        cls.addClassCleanup(cls.client_.channel.close)

    def setUp(self):
        self.c = self.client_

    def test_server(self):
        self.assertTrue(self.c.ServerLive().live)
        self.assertTrue(self.c.ServerReady().ready)
        metadata = self.c.ServerMetadata()
        self.assertEqual(metadata.name, "dunlin")
        self.assertIn("statistics", metadata.extensions)

    def test_health(self):
        self.assertEqual(self.c.health().status, health.HealthCheckResponse.SERVING)
        self.assertEqual(self.c.health("inference.GRPCInferenceService").status, health.HealthCheckResponse.SERVING)
        self.assertStatus(grpc.StatusCode.NOT_FOUND, "nobody", self.c.health, "nobody")
        watch = self.c.health(kind="Watch")
        self.assertEqual(next(watch).status, health.HealthCheckResponse.SERVING)
        watch.cancel()
        unknown = self.c.health("nobody", kind="Watch")
        self.assertEqual(next(unknown).status, health.HealthCheckResponse.SERVICE_UNKNOWN)
        unknown.cancel()

    def test_model(self):
        self.assertTrue(self.c.ModelReady(name="double").ready)
        self.assertTrue(self.c.ModelReady(name="wide", version="2").ready)
        metadata = self.c.ModelMetadata(name="double")
        self.assertEqual(list(metadata.versions), ["1"])
        self.assertEqual(
            (metadata.inputs[0].name, metadata.inputs[0].datatype, list(metadata.inputs[0].shape)),
            ("x", "FP32", [-1, 4]),
        )
        config = self.c.ModelConfig(name="double").config
        self.assertEqual((config.name, config.max_batch_size, list(config.input[0].dims)), ("double", 8, [4]))
        self.assertStatus(
            grpc.StatusCode.NOT_FOUND, "Request for unknown model: 'no' is not found", self.c.ModelMetadata, name="no"
        )
        self.assertStatus(
            grpc.StatusCode.INVALID_ARGUMENT,
            "failed to get model version from specified version string 'x' (details: stol), version should be an "
            "integral value > 0",
            self.c.ModelReady,
            name="double",
            version="x",
        )

    def test_infer(self):
        for raw in (True, False):
            reply = self.c.ModelInfer(request(raw=raw, id="7"))
            self.assertEqual((reply.model_name, reply.model_version, reply.id), ("double", "1", "7"))
            self.assertEqual([(o.name, o.datatype, list(o.shape)) for o in reply.outputs], [("y", "FP32", [1, 4])])
            self.assertEqual(floats(reply.raw_output_contents[0]), [2, 4, 6, 8])
        large = [float(i) for i in range(300_000)]
        reply = self.c.ModelInfer(request(large, (3, 100_000), "wide"))
        self.assertEqual(floats(reply.raw_output_contents[0]), [2 * v for v in large])
        reply = self.c.ModelInfer(request((), (0, 5), "wide"))
        self.assertEqual(list(reply.outputs[0].shape), [0, 5])

    def test_classification(self):
        message = request()
        message.outputs.add(name="y").parameters["classification"].int64_param = 2
        reply = self.c.ModelInfer(message)
        self.assertEqual((reply.outputs[0].datatype, list(reply.outputs[0].shape)), ("BYTES", [1, 2]))
        expected = b"".join(struct.pack("<I", len(s)) + s for s in (b"8.000000:3:four", b"6.000000:2:three"))
        self.assertEqual(reply.raw_output_contents[0], expected)

    def test_errors(self):
        invalid = grpc.StatusCode.INVALID_ARGUMENT
        infer = self.c.ModelInfer
        self.assertStatus(grpc.StatusCode.NOT_FOUND, "Request for unknown model: 'no' is not found", infer, request(model="no"))
        self.assertStatus(invalid, "inference request batch-size must be <= 8 for 'double'", infer, request([0.0] * 36, (9, 4)))
        self.assertStatus(invalid, "[request id: r1] unexpected shape for input 'x' for model 'double'. Expected [-1,4], got [1,5].",
                          infer, request([0.0] * 5, (1, 5), id="r1"))
        self.assertStatus(invalid, "input byte size mismatch for input 'x' for model 'double'. Expected 16, got 12", infer, request([0.0] * 3))
        both = request()
        both.inputs[0].contents.fp32_contents.append(1)
        self.assertStatus(invalid, "contents field must not be specified when using raw_input_contents for 'x' for model 'double'", infer, both)
        missing = request()
        missing.raw_input_contents.pop()
        self.assertStatus(invalid, "unable to find data for input tensor 'x' for model 'double' in request.", infer, missing)
        wrong = request()
        wrong.inputs[0].datatype = "INT32"
        self.assertStatus(invalid, "inference input 'x' data-type is 'INT32', but model 'double' expects 'FP32'", infer, wrong)
        reserved = request()
        reserved.parameters["triton_x"].bool_param = True
        self.assertStatus(invalid, "parameter keys starting with 'triton_' are reserved", infer, reserved)
        text = request()
        text.parameters["priority"].string_param = "1"
        self.assertStatus(invalid, "invalid value type for 'priority' parameter, expected int64_param or uint64_param.", infer, text)
        none = self.c.channel.unary_unary(SERVICE + "Nothing")
        self.assertStatus(grpc.StatusCode.UNIMPLEMENTED, "Nothing", none, b"", timeout=10)
        none = self.c.channel.unary_unary("/other.Service/ServerLive")
        self.assertStatus(grpc.StatusCode.UNIMPLEMENTED, "", none, b"", timeout=10)
        garbage = self.c.channel.unary_unary(SERVICE + "ModelInfer")
        self.assertStatus(invalid, "its bytes are no ModelInferRequest", garbage, b"\x0a\xff\xff\xff", timeout=10)
        garbage = self.c.channel.unary_unary(SERVICE + "ModelConfig")
        self.assertStatus(invalid, "cannot read the request", garbage, b"\x0a\xff\xff\xff", timeout=10)

    def test_stream(self):
        requests = [request([float(i)] * 4, id=str(i)) for i in range(200)]
        replies = {}
        for reply in self.c.stream(iter(requests)):
            self.assertEqual(reply.error_message, "")
            self.assertTrue(reply.infer_response.parameters["triton_final_response"].bool_param)
            replies[reply.infer_response.id] = floats(reply.infer_response.raw_output_contents[0])
        self.assertEqual(replies, {str(i): [2.0 * i] * 4 for i in range(200)})

    def test_stream_answers_while_it_is_open(self):
        requests = queue.Queue()
        stream = self.c.stream(iter(requests.get, None))
        for i in range(3):
            requests.put(request([float(i)] * 4, id=str(i)))
            self.assertEqual(next(stream).infer_response.id, str(i))
        requests.put(None)
        self.assertEqual(list(stream), [])
        self.assertEqual(stream.code(), grpc.StatusCode.OK)

    def test_stream_errors_are_of_one_request(self):
        empty_final = request(id="c")
        empty_final.parameters["triton_enable_empty_final_response"].bool_param = True
        replies = list(self.c.stream(iter([request(id="a"), request(model="no", id="b"), empty_final])))
        by_id = {r.infer_response.id: r for r in replies}
        self.assertEqual(len(replies), 3)
        self.assertIn("Request for unknown model: 'no' is not found", by_id["b"].error_message)
        self.assertEqual(by_id["a"].error_message, "")
        self.assertTrue(by_id["c"].infer_response.parameters["triton_final_response"].bool_param)

    def test_stream_can_end_with_a_status(self):
        stream = self.c.stream(iter([request(model="no")]), metadata=[("triton_grpc_error", "true")])
        self.assertStatus(grpc.StatusCode.NOT_FOUND, "Request for unknown model: 'no' is not found", list, stream)

    def test_cancelled_streams_and_calls_leave_the_server_well(self):
        for _ in range(20):
            stream = self.c.stream(iter([request()] * 50))
            next(stream)
            stream.cancel()
            call = self.c.unary("ModelInfer").future(request([0.0] * 400_000, (4, 100_000), "wide"))
            call.cancel()
        self.assertTrue(self.c.ServerReady().ready)

    def test_deadline(self):
        message = request([0.0] * 4_000_000, (40, 100_000), "wide")
        self.assertStatus(grpc.StatusCode.DEADLINE_EXCEEDED, "", self.c.ModelInfer, message, timeout=0.001)
        self.assertTrue(self.c.ServerReady().ready)

    def test_statistics(self):
        self.c.ModelInfer(request([0.0] * 8, (2, 4)))
        stats = self.c.ModelStatistics(name="double").model_stats[0]
        self.assertEqual((stats.name, stats.version), ("double", "1"))
        self.assertGreater(stats.inference_stats.success.count, 0)
        self.assertGreater(stats.inference_count, stats.inference_stats.success.count)
        self.assertGreater(stats.last_inference, 0)
        names = {s.name for s in self.c.ModelStatistics().model_stats}
        self.assertEqual(names, {"double", "wide"})
        self.assertStatus(grpc.StatusCode.NOT_FOUND, "is not found", self.c.ModelStatistics, name="no")

    def test_repository(self):
        index = {m.name: m for m in self.c.RepositoryIndex().models}
        self.assertEqual((index["double"].state, index["wide"].version), ("READY", "2"))
        # Triton's numbering: the model's name is field 2. KServe's: it is field 1, and the reply tells.
        reply = self.c.RepositoryModelUnload(model_name="wide")
        self.assertEqual((reply.model_name, reply.isUnloaded), ("wide", True))
        self.assertFalse(self.ready("wide"))
        reply = self.c.RepositoryModelLoad(repository_name="wide")
        self.assertEqual((reply.model_name, reply.isLoaded), ("wide", True))
        self.assertTrue(self.ready("wide"))
        self.c.RepositoryModelUnload(repository_name="wide")
        self.assertFalse(self.ready("wide"))
        load = pb.RepositoryModelLoadRequest(model_name="wide")
        load.parameters["config"].string_param = '{"max_batch_size": 0}'
        self.c.RepositoryModelLoad(load)
        self.assertTrue(self.ready("wide"))
        load.parameters["other"].string_param = ""
        self.assertStatus(grpc.StatusCode.INVALID_ARGUMENT, "'other'", self.c.RepositoryModelLoad, load)
        self.assertStatus(grpc.StatusCode.UNIMPLEMENTED, "'repository_name' specification is not supported",
                          self.c.RepositoryModelLoad, model_name="wide", repository_name="r")
        self.assertStatus(grpc.StatusCode.INTERNAL, "failed to load 'no'", self.c.RepositoryModelLoad, model_name="no")

    def ready(self, name):
        try:
            return self.c.ModelReady(name=name).ready
        except grpc.RpcError:
            return False

    def test_shared_memory(self):
        path = pathlib.Path("/dev/shm") / f"dunlin_grpc_test_{os.getpid()}"
        self.addCleanup(path.unlink)
        path.write_bytes(struct.pack("<4f", 1, 2, 3, 4) + bytes(16))
        self.c.SystemSharedMemoryRegister(name="r", key="/" + path.name, byte_size=32)
        status = self.c.SystemSharedMemoryStatus()
        self.assertEqual((status.regions["r"].key, status.regions["r"].byte_size), ("/" + path.name, 32))
        message = pb.ModelInferRequest(model_name="double")
        shared = message.inputs.add(name="x", datatype="FP32", shape=[1, 4])
        output = message.outputs.add(name="y")
        for tensor, offset in ((shared, 0), (output, 16)):
            tensor.parameters["shared_memory_region"].string_param = "r"
            tensor.parameters["shared_memory_offset"].int64_param = offset
            tensor.parameters["shared_memory_byte_size"].int64_param = 16
        reply = self.c.ModelInfer(message)
        self.assertEqual(list(reply.raw_output_contents), [b""])
        self.assertEqual(floats(path.read_bytes()[16:]), [2, 4, 6, 8])
        output.parameters["shared_memory_byte_size"].int64_param = 8
        self.assertStatus(
            grpc.StatusCode.INTERNAL,
            "shared memory size specified with the request for output 'y' (8 bytes) should be at least 16 bytes to "
            "hold the results",
            self.c.ModelInfer,
            message,
        )
        del output.parameters["shared_memory_byte_size"]
        self.assertStatus(grpc.StatusCode.INVALID_ARGUMENT,
                          "'shared_memory_byte_size' must be specified along with 'shared_memory_region' parameter",
                          self.c.ModelInfer, message)
        self.c.SystemSharedMemoryUnregister(name="r")
        self.assertEqual(len(self.c.SystemSharedMemoryStatus().regions), 0)

    def test_cuda_shared_memory_is_not_there(self):
        self.assertEqual(len(self.c.CudaSharedMemoryStatus().regions), 0)
        self.assertStatus(grpc.StatusCode.INVALID_ARGUMENT, "GPUs not supported", self.c.CudaSharedMemoryRegister,
                          name="r", raw_handle=b"x", byte_size=4)
        self.c.CudaSharedMemoryUnregister()

    def test_trace_settings(self):
        settings = self.c.TraceSetting().settings
        self.assertEqual(list(settings["trace_level"].value), ["OFF"])
        change = pb.TraceSettingRequest(model_name="double")
        change.settings["trace_rate"].value.append("7")
        self.assertEqual(list(self.c.TraceSetting(change).settings["trace_rate"].value), ["7"])
        self.assertEqual(list(self.c.TraceSetting().settings["trace_rate"].value), ["1000"])

    def test_log_settings(self):
        settings = self.c.LogSettings().settings
        self.assertTrue(settings["log_info"].bool_param)
        change = pb.LogSettingsRequest()
        change.settings["log_verbose_level"].uint32_param = 1
        self.assertEqual(self.c.LogSettings(change).settings["log_verbose_level"].uint32_param, 1)
        change.settings["log_verbose_level"].uint32_param = 0
        self.c.LogSettings(change)
        change.settings["log_info"].string_param = "yes"
        self.assertStatus(grpc.StatusCode.INVALID_ARGUMENT, "log_info", self.c.LogSettings, change)
        change = pb.LogSettingsRequest()
        change.settings["log_file"].string_param = "/tmp/x"
        self.assertStatus(grpc.StatusCode.UNIMPLEMENTED, "", self.c.LogSettings, change)

    def test_compressed_requests(self):
        for kind in (grpc.Compression.Gzip, grpc.Compression.Deflate):
            reply = self.c.ModelInfer(request([3.0] * 40_000, (4, 10_000), "wide"), compression=kind)
            self.assertEqual(floats(reply.raw_output_contents[0]), [6.0] * 40_000)


class Process(GrpcCase):
    """What needs a server of its own."""

    def setUp(self):
        super().setUp()
        self.write("double/1/model.onnx", add_model(("N", "M")))
        self.write("double/config.pbtxt", "max_batch_size: 0")

    def test_limits(self):
        server = self.serve("--grpc-max-message-size", "100000", "--grpc-max-inflight-size", str(8 << 20))
        client = self.client(server)
        self.assertEqual(len(client.ModelInfer(request([1.0] * 20_000, (1, 20_000))).raw_output_contents[0]), 80_000)
        exhausted = grpc.StatusCode.RESOURCE_EXHAUSTED
        self.assertStatus(exhausted, "", client.ModelInfer, request([1.0] * 30_000, (1, 30_000)))
        # Compressed it is small; decompressed it is not.
        for kind in (grpc.Compression.Gzip, grpc.Compression.Deflate):
            bomb = request([0.0] * 10_000_000, (1, 10_000_000))
            self.assertStatus(exhausted, "larger than 100000 bytes when decompressed", client.ModelInfer, bomb, compression=kind)
        self.assertTrue(client.ServerReady().ready)
        self.assertLess(server.rss(), 300 << 20)
        self.assertEqual(server.stop(), 0)

    def test_compressed_replies(self):
        server = self.serve("--grpc-infer-response-compression-level", "high")
        client = self.client(server)
        message = request([1.0] * 100_000, (1, 100_000))
        call = client.unary("ModelInfer").with_call
        reply, call = call(message, timeout=30)
        self.assertEqual(floats(reply.raw_output_contents[0]), [2.0] * 100_000)
        self.assertEqual(server.stop(), 0)

    def test_restricted_protocols_and_the_access_log(self):
        log = self.repository.parent / (self.repository.name + ".log")
        self.addCleanup(log.unlink)
        server = self.serve("--grpc-restricted-protocol", "model-repository,logging:admin=secret", "--access-log", str(log))
        client = self.client(server)
        refused = "This protocol is restricted, expecting header 'triton-grpc-protocol-admin'"
        self.assertStatus(grpc.StatusCode.UNAVAILABLE, refused, client.RepositoryIndex)
        self.assertStatus(grpc.StatusCode.UNAVAILABLE, refused, client.LogSettings)
        key = [("triton-grpc-protocol-admin", "secret")]
        self.assertEqual(len(client.RepositoryIndex(metadata=key).models), 1)
        client.ModelInfer(request(id="42"))
        self.assertEqual(server.stop(), 0)
        lines = log.read_text().splitlines()
        infer = next(l for l in lines if "ModelInfer" in l)
        for part in ("path=/inference.GRPCInferenceService/ModelInfer", "method=double", "status=0", "id=42"):
            self.assertIn(part, infer)
        self.assertEqual(sum("RepositoryIndex" in l and "status=14" in l for l in lines), 1)

    def test_garbage_on_the_port(self):
        server = self.serve()
        preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
        frames = [
            b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
            os.urandom(2000),
            preface + os.urandom(2000),
            preface + b"\x00\x00\x00\x04\x00\x00\x00\x00\x00" + b"\xff\xff\xff\x00\x00\x00\x00\x00\x01",
            preface + b"\x00\x00\x00\x04\x00\x00\x00\x00\x00" + b"\x00\x00\x04\x01\x05\x00\x00\x00\x01\xff\xff\xff\xff",
            preface + b"\x00\x00\x00\x04\x00\x00\x00\x00\x00" + b"\x00\x00\x08\x06\x00\x00\x00\x00\x00" * 500,
        ]
        for data in frames:
            with socket.create_connection((HOST, server.grpc), timeout=10) as s:
                s.sendall(data)
                s.shutdown(socket.SHUT_WR)
                try:
                    while s.recv(65536):
                        pass
                except OSError:
                    pass
        with socket.create_connection((HOST, server.grpc)) as half_open:
            half_open.sendall(preface[:10])
            self.assertTrue(self.client(server).ServerReady().ready)
        self.assertEqual(server.stop(), 0)

    def test_drain(self):
        server = self.serve()
        client = self.client(server)
        watch = client.health(kind="Watch")
        self.assertEqual(next(watch).status, health.HealthCheckResponse.SERVING)
        requests = queue.Queue()
        stream = client.stream(iter(requests.get, None))
        requests.put(request(id="1"))
        next(stream)
        with concurrent.futures.ThreadPoolExecutor(4) as pool:
            stop = threading.Event()

            def load():
                answered = 0
                while not stop.is_set():
                    try:
                        client.ModelInfer(request())
                        answered += 1
                    except grpc.RpcError as error:
                        return answered, error.code()
                return answered, None

            runs = [pool.submit(load) for _ in range(3)]
            time.sleep(0.3)
            code = server.stop()
            stop.set()
            for run in runs:
                answered, status = run.result()
                self.assertGreater(answered, 0)
                self.assertIn(status, (grpc.StatusCode.UNAVAILABLE, None))
        self.assertEqual(code, 0)
        self.assertEqual([w.status for w in self.rest(watch)], [health.HealthCheckResponse.NOT_SERVING])
        self.rest(stream)
        self.assertEqual(stream.code(), grpc.StatusCode.UNAVAILABLE)
        requests.put(None)

    def rest(self, stream):
        got = []
        try:
            for item in stream:
                got.append(item)
        except grpc.RpcError:
            pass
        return got

    def test_port_in_use_and_off(self):
        server = self.serve()
        second = self.serve("--grpc-port", str(server.grpc), wait=False)
        self.assertNotEqual(second.process.wait(30), 0)
        self.assertTrue(any("cannot listen on" in l.get("error", "") for l in second.lines))
        off = self.serve("--allow-grpc", "false")
        self.assertIsNone(off.grpc)
        self.assertEqual(server.stop(), 0)

    def certificates(self):
        folder = self.repository.parent / (self.repository.name + ".tls")
        folder.mkdir()
        self.addCleanup(lambda: __import__("shutil").rmtree(folder))

        def openssl(*args):
            subprocess.run(["openssl", *map(str, args)], check=True, cwd=folder, capture_output=True)

        openssl("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", "ca.key", "-out", "ca.pem", "-days", 2, "-subj", "/CN=test-ca")
        for name in ("server", "client"):
            (folder / "ext").write_text("subjectAltName=DNS:localhost,IP:127.0.0.1\n")
            openssl("req", "-newkey", "rsa:2048", "-nodes", "-keyout", f"{name}.key", "-out", f"{name}.csr", "-subj", f"/CN={name}")
            openssl("x509", "-req", "-in", f"{name}.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", 2,
                    "-extfile", "ext", "-out", f"{name}.pem")
            (folder / f"{name}.key").chmod(0o600)
        return folder

    def test_tls(self):
        folder = self.certificates()
        ca, key, certificate = ((folder / n).read_bytes() for n in ("ca.pem", "client.key", "client.pem"))
        files = ["--grpc-server-cert", str(folder / "server.pem"), "--grpc-server-key", str(folder / "server.key")]

        def ready(server, **credentials):
            channel = grpc.secure_channel(f"localhost:{server.grpc}", grpc.ssl_channel_credentials(ca, **credentials))
            self.addCleanup(channel.close)
            return Client(None, channel).ServerReady(timeout=5).ready

        server = self.serve("--grpc-use-ssl", "true", *files)
        self.assertTrue(ready(server))
        self.assertStatus(grpc.StatusCode.UNAVAILABLE, "", self.client(server).ServerReady, timeout=5)
        server.stop()
        server = self.serve("--grpc-use-ssl", "true", "--grpc-use-ssl-mutual", "true", *files, "--grpc-root-cert", str(folder / "ca.pem"))
        self.assertTrue(ready(server, private_key=key, certificate_chain=certificate))
        self.assertStatus(grpc.StatusCode.UNAVAILABLE, "", ready, server)
        server.stop()
        bad = self.serve("--grpc-use-ssl", "true", "--grpc-server-cert", "/no/such.pem", "--grpc-server-key", "x", wait=False)
        self.assertNotEqual(bad.process.wait(30), 0)


if __name__ == "__main__":
    server_test.DUNLIN = sys.argv[1]
    unittest.main(argv=[sys.argv[0], *sys.argv[2:]])
