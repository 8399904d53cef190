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


class Graphs(ConfigCase):
    def test_an_optional_input_has_the_models_value(self):
        port = {n: onnx.value(n, onnx.tensor_type(onnx.FLOAT, [2])) for n in ("x", "bias", "y")}
        self.write("biased/1/model.onnx", onnx.model(
            [onnx.node("Add", ["x", "bias"], ["y"])], [port["x"], port["bias"]], [port["y"]],
            initializers=[onnx.tensor("bias", onnx.FLOAT, [2], struct.pack("<2f", 10, 20))]))
        self.write("plain/1/model.onnx", (self.repository / "biased/1/model.onnx").read_bytes())
        self.write("biased/config.pbtxt", """max_batch_size: 0
            input [ { name: "x" data_type: TYPE_FP32 dims: 2 }, { name: "bias" data_type: TYPE_FP32 dims: 2 optional: true } ]""")
        server = self.serve()
        tensor = lambda name, *values: {"name": name, "shape": [2], "datatype": "FP32", "data": list(values)}
        ask = lambda *inputs: self.infer(server, json.dumps({"inputs": list(inputs)}), "biased")["y"]
        self.assertEqual(ask(tensor("x", 1, 2)), [11, 22])
        self.assertEqual(ask(tensor("x", 1, 2), tensor("bias", 0, 1)), [1, 3])
        self.assertEqual(ask(tensor("bias", 0, 1), tensor("x", 1, 2)), [1, 3])
        # Without a configuration it is a constant.
        self.assertEqual([i["name"] for i in self.config(server, "plain")["input"]], ["x"])

    def test_scores_in_place_of_maps(self):
        zipmap = onnx.node("ZipMap", ["x"], ["scores"], domain="ai.onnx.ml",
                           attributes=[onnx.strings("classlabels_strings", ["no", "yes"])])
        self.write("classifier/1/model.onnx", onnx.model(
            [zipmap, onnx.node("ArgMax", ["x"], ["label"])], [onnx.value("x", onnx.tensor_type(onnx.FLOAT, ["n", 2]))],
            [onnx.value("label", onnx.tensor_type(onnx.INT64, [1, 2])),
             onnx.value("scores", onnx.block(4, onnx.block(1, onnx.map_type(onnx.STRING, onnx.FLOAT))))]))
        # A sequence stays one, and is left out.
        self.write("sequence/1/model.onnx", onnx.model(
            [onnx.node("SequenceConstruct", ["x", "x"], ["s"]), onnx.node("Add", ["x", "x"], ["y"])],
            [onnx.value("x", onnx.tensor_type(onnx.FLOAT, [1]))],
            [onnx.value("s", onnx.sequence_type(onnx.FLOAT, [1])), onnx.value("y", onnx.tensor_type(onnx.FLOAT, [1]))]))
        server = self.serve()
        body = json.dumps({"inputs": [{"name": "x", "shape": [1, 2], "datatype": "FP32", "data": [0.25, 0.75]}]})
        self.assertEqual(self.infer(server, body, "classifier")["scores"], [0.25, 0.75])
        meta = json.loads(server.ask("GET", "/v2/models/sequence")[2])
        self.assertEqual([o["name"] for o in meta["outputs"]], ["y"])
        body = json.dumps({"inputs": [{"name": "x", "shape": [1], "datatype": "FP32", "data": [3]}]})
        self.assertEqual(self.infer(server, body, "sequence"), {"y": [6]})
        self.assertTrue(any(l.get("output") == "s" for l in server.lines), server.lines)


if __name__ == "__main__":
    server_test.DUNLIN = sys.argv[1]
    unittest.main(argv=[sys.argv[0], *sys.argv[2:]])
