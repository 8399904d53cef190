#!/usr/bin/env python3
"""What the configuration of a model does, as clients see it.

    tests/server/config_test.py DUNLIN [unittest options]
"""

import json
import struct
import sys
import unittest

import server_test
from server_test import Case, add_model, onnx, request_json


class ConfigCase(Case):
    def config(self, server, model="double"):
        status, _, body = server.ask("GET", f"/v2/models/{model}/config")
        self.assertEqual(status, 200, body)
        return json.loads(body)

    def infer(self, server, body, model="double"):
        status, _, reply = server.ask("POST", f"/v2/models/{model}/infer", body)
        self.assertEqual(status, 200, reply)
        return {o["name"]: o["data"] for o in json.loads(reply)["outputs"]}


class Configuration(ConfigCase):
    def test_a_model_without_a_file(self):
        self.write("double/1/model.onnx", add_model())
        config = self.config(self.serve())
        self.assertEqual(list(config)[:6], ["name", "platform", "backend", "runtime", "version_policy", "max_batch_size"])
        self.assertEqual(config["version_policy"], {"latest": {"num_versions": 1}})
        self.assertEqual(config["dynamic_batching"]["preferred_batch_size"], [4])
        self.assertEqual(config["dynamic_batching"]["max_queue_delay_microseconds"], 0)
        self.assertEqual(config["instance_group"], [
            {"name": "double", "kind": "KIND_CPU", "count": 2, "gpus": [], "secondary_devices": [], "profile": [],
             "passive": False, "host_policy": ""}])
        self.assertEqual(config["optimization"]["input_pinned_memory"], {"enable": True})

    def test_broken_files_are_named_in_the_index(self):
        self.write("double/1/model.onnx", add_model())
        self.write("unknown/1/model.onnx", add_model())
        self.write("unknown/config.pbtxt", "max_batch_size: 4\nnonsense: 1\n")
        self.write("sizes/1/model.onnx", add_model())
        self.write("sizes/config.pbtxt", "max_batch_size: 4 dynamic_batching { preferred_batch_size: 5 }")
        server = self.serve("--exit-on-error=false")
        index = {e["name"]: e for e in json.loads(server.ask("POST", "/v2/repository/index")[2])}
        self.assertEqual(index["double"]["state"], "READY")
        self.assertEqual(index["unknown"]["state"], "UNAVAILABLE")
        self.assertIn("line 2", index["unknown"]["reason"])
        self.assertEqual(index["sizes"]["reason"],
                         "Invalid argument: dynamic batching preferred size must be <= max batch size for sizes")

    def test_fields_without_effect_are_warned_about_once(self):
        self.write("double/1/model.onnx", add_model())
        self.write("double/config.pbtxt", "optimization { cuda { graphs: true } } runtime: 'x'")
        server = self.serve()
        warnings = [l for l in server.lines if "without effect" in l["event"]]
        self.assertEqual(len(warnings), 1)
        self.assertEqual(warnings[0]["fields"], "optimization.cuda, runtime")

    def test_variants(self):
        self.write("double/1/model.onnx", add_model())
        self.write("double/config.pbtxt", "max_batch_size: 2")
        self.write("double/configs/big.pbtxt", "max_batch_size: 64")
        self.assertEqual(self.config(self.serve("--model-config-name", "big"))["max_batch_size"], 64)
        self.assertEqual(self.config(self.serve("--model-config-name", "small"))["max_batch_size"], 2)

    def test_reshape_and_a_folder_as_the_model(self):
        self.write("double/1/model.onnx/model.onnx", add_model())
        self.write("double/config.pbtxt", """max_batch_size: 8
            input { name: "x" data_type: TYPE_FP32 dims: [ 2, 2 ] reshape { shape: 4 } }
            output { name: "y" data_type: TYPE_FP32 dims: [ 1, 4, 1 ] reshape { shape: 4 } }""")
        server = self.serve()
        self.assertError(server.ask("POST", "/v2/models/double/infer", request_json()), 400,
                         "unexpected shape for input 'x' for model 'double'. Expected [-1,2,2], got [1,4]. NOTE: ")
        reply = json.loads(server.ask("POST", "/v2/models/double/infer", request_json(shape=(1, 2, 2)))[2])
        self.assertEqual(reply["outputs"][0]["shape"], [1, 1, 4, 1])
        self.assertEqual(reply["outputs"][0]["data"], [2, 4, 6, 8])


if __name__ == "__main__":
    server_test.DUNLIN = sys.argv[1]
    unittest.main(argv=[sys.argv[0], *sys.argv[2:]])
