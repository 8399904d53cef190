#!/usr/bin/env python3
"""The model repository extension against the real process.

    tests/server/repository_test.py DUNLIN [unittest options]
"""

import base64
import json
import os
import sys
import tempfile
import time
import unittest
import unittest.mock

import server_test
from server_test import Case, add_model, request_json


class RepositoryExtension(Case):
    def index(self, server, body=None):
        return json.loads(server.ask("POST", "/v2/repository/index", body)[2])

    def load(self, server, model, **parameters):
        body = json.dumps({"parameters": parameters}) if parameters else None
        return server.ask("POST", f"/v2/repository/models/{model}/load", body)

    def answer(self, server, model="double"):
        status, _, body = server.ask("POST", f"/v2/models/{model}/infer", request_json())
        self.assertEqual(status, 200, body)
        return json.loads(body)["outputs"][0]["data"][3]

    def test_control_is_explicit_or_refused(self):
        self.write("double/1/model.onnx", add_model())
        server = self.serve()
        message = "explicit model load / unload is not allowed if polling is enabled"
        self.assertError(self.load(server, "double"), 503, message)
        self.assertError(server.ask("POST", "/v2/repository/models/double/unload"), 503, message)

    def test_words_of_failures(self):
        self.write("double/1/model.onnx", add_model())
        self.write("broken/1/model.onnx", b"\x00")
        self.write("empty/readme", b"no version")
        self.write("untouched/1/model.onnx", add_model())
        server = self.serve("--model-control-mode", "explicit")
        answer = self.load(server, "unknown")
        self.assertEqual(answer[0], 500)
        self.assertEqual(json.loads(answer[2])["error"],
                         "failed to load 'unknown', failed to poll from model repository")
        self.assertError(self.load(server, "broken"), 400,
                         "load failed for model 'broken': version 1 is at UNAVAILABLE state: Invalid argument: ")
        self.assertError(self.load(server, "empty"), 400,
                         "at least one version must be available under the version policy of model 'empty'")
        self.assertError(self.load(server, "double", config="{"), 500, "failed to load 'double', ")
        self.assertError(self.load(server, "double", nonsense=1), 400, "unexpected parameter 'nonsense', expecting ")
        self.assertEqual(server.ask("POST", "/v2/repository/models/unknown/unload")[0], 200)
        entries = {e["name"]: e for e in self.index(server)}
        self.assertEqual(entries["untouched"], {"name": "untouched"})
        self.assertEqual(entries["double"]["state"], "UNAVAILABLE")
        self.assertIn("failed to poll", entries["double"]["reason"])
        self.assertEqual(entries["broken"]["state"], "UNAVAILABLE")
        self.assertEqual(self.index(server, '{"ready":true}'), [])
        self.assertEqual(self.load(server, "double")[0], 200)
        self.assertEqual(self.index(server, '{"ready":true}'), [{"name": "double", "version": "1", "state": "READY"}])

    def test_a_model_that_is_asked_for_and_missing_is_not_ready(self):
        self.write("double/1/model.onnx", add_model())
        flags = ("--model-control-mode", "explicit", "--load-model", "double", "--load-model", "missing", "--exit-on-error=false")
        server = self.serve(*flags)
        self.assertEqual(server.ask("GET", "/v2/health/ready")[0], 400)
        self.assertEqual(self.answer(server), 8)
        # Whoever asks for its unload no longer wants it.
        self.assertEqual(server.ask("POST", "/v2/repository/models/missing/unload")[0], 200)
        self.assertEqual(server.ask("GET", "/v2/health/ready")[0], 200)
        self.assertEqual(self.serve(*flags, "--strict-readiness=false").ask("GET", "/v2/health/ready")[0], 200)

    def test_a_load_request_may_bring_the_model(self):
        self.write("double/1/model.onnx", add_model())
        temporary = tempfile.TemporaryDirectory()
        self.addCleanup(temporary.cleanup)
        with unittest.mock.patch.dict(os.environ, TMPDIR=temporary.name):
            server = self.serve("--model-control-mode", "explicit", "--load-model", "double")
        squares = base64.b64encode(add_model(op="Mul")).decode()
        answer = self.load(server, "double", **{"file:7/model.onnx": squares})
        self.assertError(answer, 500, "failed to load 'double', failed to poll from model repository")
        self.assertEqual(self.answer(server), 8)
        answer = self.load(server, "double", config='{"backend":"onnxruntime"}', **{"file:7/model.onnx": squares})
        self.assertEqual(answer[0], 200, answer)
        self.assertEqual(self.answer(server), 16)
        self.assertEqual(server.ask("GET", "/v2/models/double/versions/7/ready")[0], 200)
        self.assertNotEqual(server.ask("GET", "/v2/models/double/versions/1/ready")[0], 200)
        answer = self.load(server, "other", config="{}", **{"file:1/model.onnx": squares})
        self.assertEqual(answer[0], 200, answer)
        self.assertEqual(self.answer(server, "other"), 16)
        self.assertEqual(self.load(server, "double")[0], 200)
        self.assertEqual(self.answer(server), 8)
        for path in ("../../escape", "1/../../escape", "/tmp/escape"):
            answer = self.load(server, "evil", config="{}", **{f"file:{path}": squares})
            self.assertError(answer, 500, "failed to load 'evil'")
        answer = self.load(server, "double", config="{}", **{"file:1/model.onnx": "#"})
        self.assertError(answer, 400, "Unable to parse 'file:1/model.onnx'")
        self.assertEqual(os.listdir(temporary.name), [])

    def test_a_reload_never_leaves_a_gap(self):
        self.write("double/1/model.onnx", add_model())
        server = self.serve("--model-control-mode", "explicit", "--load-model", "double")
        self.write("double/config.pbtxt", "version_policy { specific { versions: [ 2, 5 ] } }")
        self.write("double/2/model.onnx", add_model(op="Mul"))
        self.assertEqual(self.load(server, "double")[0], 200)
        self.assertEqual(self.answer(server), 16)
        self.write("double/2/model.onnx", b"broken")
        self.assertEqual(self.load(server, "double")[0], 400)
        self.assertEqual(self.answer(server), 16)
        self.assertEqual(server.ask("POST", "/v2/repository/models/double/unload")[0], 200)
        self.assertNotEqual(server.ask("GET", "/v2/models/double/ready")[0], 200)
        end = time.monotonic() + 20
        while {e.get("reason") for e in self.index(server)} != {"unloaded"}:
            self.assertLess(time.monotonic(), end, self.index(server))
            time.sleep(0.05)


if __name__ == "__main__":
    server_test.DUNLIN = sys.argv[1]
    unittest.main(argv=[sys.argv[0], *sys.argv[2:]])
