#!/usr/bin/env python3
"""Requests of different lengths, batched by the real server: answers, and that they ran together.

    tests/server/ragged_test.py DUNLIN
"""

import concurrent.futures
import http.client
import json
import math
import pathlib
import random
import sys
import tempfile
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
import server_test  # noqa: E402
from server_test import onnx  # noqa: E402

WIDTH = 4
SWAP = onnx.block(1, "perm") + b"".join(onnx.number(8, i) for i in (0, 2, 1)) + onnx.number(20, 7)


def attention_model():
    """y = softmax(x xᵀ) x: every position sees all of its own sequence."""
    nodes = [
        onnx.node("Transpose", ["x"], ["t"], attributes=[SWAP]),
        onnx.node("MatMul", ["x", "t"], ["scores"]),
        onnx.node("Softmax", ["scores"], ["weights"]),
        onnx.node("MatMul", ["weights", "x"], ["y"]),
    ]
    ports = [onnx.value(name, onnx.tensor_type(onnx.FLOAT, ["batch", "length", WIDTH])) for name in ("x", "y")]
    return onnx.model(nodes, ports[:1], ports[1:])


def attention(x):
    dot = lambda a, b: sum(p * q for p, q in zip(a, b))
    rows = []
    for query in x:
        weights = [math.exp(dot(query, key)) for key in x]
        rows.append([sum(w * key[i] for w, key in zip(weights, x)) / sum(weights) for i in range(WIDTH)])
    return rows


class Ragged(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.addCleanup(self.folder.cleanup)

    def serve(self, config):
        version = pathlib.Path(self.folder.name) / "net" / "1"
        version.mkdir(parents=True)
        (version / "model.onnx").write_bytes(attention_model())
        (version.parent / "config.pbtxt").write_text(config)
        self.server = server_test.Server(self.folder.name)
        self.addCleanup(self.server.process.wait)
        self.addCleanup(self.server.process.terminate)

    def call(self, method, path, body=None):
        connection = http.client.HTTPConnection(server_test.HOST, self.server.http)
        connection.request(method, path, json.dumps(body) if body else None)
        reply = connection.getresponse()
        text = reply.read()
        connection.close()
        self.assertEqual(reply.status, 200, text)
        return json.loads(text)

    def infer(self, x):
        tensor = {"name": "x", "shape": [1, len(x), WIDTH], "datatype": "FP32", "data": [v for row in x for v in row]}
        return self.call("POST", "/v2/models/net/infer", {"inputs": [tensor]})["outputs"][0]

    def check(self, lengths):
        rng = random.Random(1)
        requests = [[[rng.uniform(-1, 1) for _ in range(WIDTH)] for _ in range(n)] for n in lengths]
        with concurrent.futures.ThreadPoolExecutor(len(requests)) as pool:
            replies = list(pool.map(self.infer, requests))
        for x, reply in zip(requests, replies):
            self.assertEqual(reply["shape"], [1, len(x), WIDTH])
            for got, want in zip(reply["data"], [v for row in attention(x) for v in row]):
                self.assertAlmostEqual(got, want, places=5)
        stats = self.call("GET", "/v2/models/net/stats")["model_stats"][0]
        self.assertEqual(stats["inference_count"], len(lengths))
        return stats["execution_count"]

    def test_different_lengths_run_together_without_a_setting(self):
        self.serve("max_batch_size: 8\ndynamic_batching { max_queue_delay_microseconds: 300000 }")
        self.assertLess(self.check([1, 7, 3, 12, 30, 2, 5, 9]), 8)

    def test_an_input_may_say_so(self):
        port = 'input { name: "x" data_type: TYPE_FP32 dims: [ -1, 4 ] allow_ragged_batch: true }\n'
        self.serve(port + "max_batch_size: 8\ndynamic_batching { max_queue_delay_microseconds: 300000 }")
        self.assertLess(self.check([4, 1, 25, 6]), 4)

    def test_without_batching_each_runs_alone(self):
        self.serve("max_batch_size: 8")
        self.assertEqual(self.check([3, 1, 8]), 3)


if __name__ == "__main__":
    server_test.DUNLIN = sys.argv.pop(1)
    unittest.main()
