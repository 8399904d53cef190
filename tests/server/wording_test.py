#!/usr/bin/python3
"""What clients and test suites of other servers compare: statuses and words, over HTTP and gRPC.

    tests/server/wording_test.py DUNLIN [unittest options]
"""

import json
import struct
import sys
import unittest

import grpc

import grpc_test
import server_test
from grpc_test import pb
from http_protocol_test import Served, identity_model, sum_model
from server_test import add_model, onnx, request_json

RAW = {"Inference-Header-Content-Length": "0"}


def tensor(data=None, shape=(1, 4), datatype="FP32", name="x", **parameters):
    more = {"data": data} if data is not None else {}
    return {"name": name, "shape": list(shape), "datatype": datatype, "parameters": parameters, **more}


def nested(value, depth):
    return "[" * depth + value + "]" * depth


class Words(Served, grpc_test.GrpcCase):
    FLAGS = ("--http-max-input-size", "100000")
    MODELS = {
        "double": add_model(),
        "wide": identity_model(onnx.FLOAT, ["N", "M"]),
        "planes": identity_model(onnx.FLOAT, ["N", "H", "W"]),
        "text": identity_model(onnx.STRING, ["N", 1]),
        "texts": identity_model(onnx.STRING, ["N", "M"]),
        "sum": sum_model(),
    }

    def setUp(self):
        super().setUp()
        self.c = self.client(self.server)

    def refuse(self, model, body, message, headers=None, status=400):
        answer = self.server.ask("POST", f"/v2/models/{model}/infer", body, headers)
        self.assertError(answer, status, message)

    def test_raw_requests(self):
        floats = struct.pack("<8f", *range(8))
        reply = self.post("/v2/models/wide/infer", floats, headers=RAW)
        self.assertTrue(reply.endswith(floats))
        self.assertTrue(self.post("/v2/models/text/infer", "427", headers=RAW).endswith(b"\x03\0\0\x00427"))
        self.refuse("texts", "427", "For BYTE datatype raw input 'x', the model must have input shape [1]", RAW)
        self.refuse("planes", floats, "The shape of the raw input 'x' can not be deduced because there are more than one "
                    "variable-sized dimension", RAW)
        self.refuse("sum", floats, "Raw request must only have 1 input (found 1) to be deduced but got 2 inputs in 'sum' "
                    "model configuration", RAW)
        self.refuse("wide", floats[:7], "input byte size mismatch for input 'x' for model 'wide'", RAW)

    def test_input_sizes(self):
        fits, large = bytes(100_000), bytes(100_004)
        self.post("/v2/models/wide/infer", fits, headers=RAW)
        limit = "exceeds the maximum allowed input size of 100000 bytes. Use --http-max-input-size to increase the limit."
        self.refuse("wide", large, "raw request size of 100004 bytes " + limit, RAW)
        self.refuse("wide", " " * 100_001, "request JSON size of 100001 bytes " + limit)
        ones = json.dumps({"inputs": [tensor([1] * 26_000, (1, 26_000))]}).replace(" ", "")
        self.refuse("wide", ones, "JSON tensor 'x' size of 104000 bytes " + limit)
        # Binary tensors are bounded by the body's limit only.
        head = json.dumps({"inputs": [tensor(shape=(1, 50_000), binary_data_size=200_000)], "outputs": []}).encode()
        self.post("/v2/models/wide/infer", head + bytes(200_000), headers={"Inference-Header-Content-Length": str(len(head))})

    def test_shapes_that_overflow(self):
        body = lambda *shape: json.dumps({"inputs": [tensor([1.0], shape)]})
        self.refuse("wide", body(2**4, 2**60 + 2), "causes total element count to exceed maximum size of ")
        self.refuse("wide", body(2**2, 2**60 + 2), "byte size overflow for input 'x'")
        self.refuse("wide", body(2, -5), "Unable to parse 'shape': attempt to access JSON non-unsigned-integer as unsigned-integer")
        negative = grpc_test.request(shape=(1, -4), model="wide")
        self.assertStatus(grpc.StatusCode.INVALID_ARGUMENT, "Shape [1,-4] does not describe a tensor", self.c.ModelInfer, negative)

    def test_depth_of_json(self):
        body = lambda depth: json.dumps({"inputs": [tensor(0, (1, 1), "BYTES")]}).replace('"data": 0', '"data": ' + nested('"a"', depth))
        self.assertEqual(self.post("/v2/models/texts/infer", body(90))["outputs"][0]["data"], ["a"])
        self.refuse("texts", body(120), "JSON nesting depth exceeds maximum allowed limit (100)")

    def test_an_output_is_asked_for_once(self):
        message = "Duplicate output name 'y' is not allowed in a request"
        self.refuse("double", request_json(outputs=[{"name": "y"}, {"name": "y"}]), message)
        request = grpc_test.request()
        for _ in range(2):
            request.outputs.add(name="y")
        self.assertStatus(grpc.StatusCode.INVALID_ARGUMENT, message, self.c.ModelInfer, request)

    def test_models_that_are_not_there(self):
        self.assertError(self.server.ask("GET", "/v2/models/none/trace/setting"), 400, "Request for unknown model : none")
        self.assertStatus(grpc.StatusCode.INVALID_ARGUMENT, "Request for unknown model : none", self.c.TraceSetting, model_name="none")
        self.assertFalse(self.c.ModelReady(name="none").ready)
        self.assertFalse(self.c.ModelReady(name="double", version="9").ready)
        self.assertTrue(self.c.ModelReady(name="double").ready)

    def test_extensions_are_those_that_are_served(self):
        expected = ["classification", "model_repository", "model_repository(unload_dependents)", "schedule_policy",
                    "model_configuration", "system_shared_memory", "binary_tensor_data", "parameters", "statistics", "trace",
                    "logging"]
        self.assertEqual(self.get("/v2")["extensions"], expected)
        self.assertEqual(list(self.c.ServerMetadata().extensions), expected)

    def test_repository_names(self):
        self.assertEqual(len(self.post("/v2/repository/any/index")), len(self.MODELS))
        self.assertEqual(len(self.c.RepositoryIndex(repository_name="any").models), len(self.MODELS))
        message = "'repository_name' specification is not supported"
        self.assertError(self.server.ask("POST", "/v2/repository/any/models/double/load"), 501, message)
        self.assertError(self.server.ask("POST", "/v2/repository/any/models/double/unload"), 501, message)
        self.assertStatus(grpc.StatusCode.UNIMPLEMENTED, message, self.c.RepositoryModelUnload, repository_name="any", model_name="double")

    def test_a_stream_that_has_not_begun_fails_as_json(self):
        status, headers, body = self.server.ask("POST", "/v2/models/double/generate_stream", "{}")
        self.assertEqual((status, headers["content-type"]), (400, "application/json"))
        self.assertIn("expected 1 inputs but got 0 inputs for model 'double'", json.loads(body)["error"])

    def test_which_form_an_output_takes(self):
        head = lambda **more: json.dumps({"inputs": [tensor([1, 2, 3, 4])], **more})
        binary = {"binary_data_output": True}
        self.assertEqual(self.post("/v2/models/double/infer", head(parameters=binary))[-16:], struct.pack("<4f", 2, 4, 6, 8))
        # Of outputs that are listed only their own parameter counts.
        listed = self.post("/v2/models/double/infer", head(parameters=binary, outputs=[{"name": "y"}]))
        self.assertEqual(listed["outputs"][0]["data"], [2, 4, 6, 8])
        own = self.post("/v2/models/double/infer", head(outputs=[{"name": "y", "parameters": {"binary_data": True}}]))
        self.assertEqual(own[-16:], struct.pack("<4f", 2, 4, 6, 8))


if __name__ == "__main__":
    server_test.DUNLIN = sys.argv[1]
    unittest.main(argv=[sys.argv[0], *sys.argv[2:]])
