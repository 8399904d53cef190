#!/usr/bin/env python3
"""The response cache against the real process.

    tests/server/cache_test.py DUNLIN [unittest options]
"""

import json
import sys
import unittest

import server_test
from server_test import Case, add_model, request_json


class ResponseCache(Case):
    def ask(self, server, body, model="double"):
        status, _, reply = server.ask("POST", f"/v2/models/{model}/infer", body)
        self.assertEqual(status, 200, reply)
        return json.loads(reply)

    def stats(self, server, model="double"):
        return json.loads(server.ask("GET", f"/v2/models/{model}/stats")[2])["model_stats"][0]

    def test_the_second_answer_comes_from_memory(self):
        for name in ("double", "plain"):
            self.write(f"{name}/1/model.onnx", add_model())
        self.write("double/config.pbtxt", "max_batch_size: 4 response_cache { enable: true }")
        server = self.serve("--cache-config", "local,size=1048576", "--model-control-mode", "explicit",
                            "--load-model", "*")
        first = self.ask(server, request_json(id="a"))
        second = self.ask(server, request_json(id="b"))
        self.assertEqual(first["outputs"], second["outputs"])
        self.assertEqual((first["id"], second["id"]), ("a", "b"))
        self.ask(server, request_json(values=(1.0, 2.0, 3.0, 5.0)))
        stats = self.stats(server)
        self.assertEqual(stats["inference_stats"]["cache_hit"]["count"], 1)
        self.assertEqual(stats["inference_stats"]["cache_miss"]["count"], 2)
        self.assertEqual(stats["inference_stats"]["success"]["count"], 3)
        self.assertEqual(stats["execution_count"], 2)
        # An answer of the old model must not outlive it.
        self.write("double/1/model.onnx", add_model(op="Mul"))
        self.assertEqual(server.ask("POST", "/v2/repository/models/double/load")[0], 200)
        self.assertEqual(self.ask(server, request_json())["outputs"][0]["data"][3], 16)
        # Models that do not ask for it are not cached.
        for _ in range(2):
            self.ask(server, request_json(), "plain")
        self.assertEqual(self.stats(server, "plain")["inference_stats"]["cache_hit"]["count"], 0)

    def test_without_a_cache_the_model_is_served_all_the_same(self):
        self.write("double/1/model.onnx", add_model())
        self.write("double/config.pbtxt", "max_batch_size: 4 response_cache { enable: true }")
        server = self.serve()
        for _ in range(2):
            self.ask(server, request_json())
        self.assertEqual(self.stats(server)["execution_count"], 2)
        self.assertTrue(any("--cache-config" in l["event"] for l in server.lines))

    def test_other_caches_are_refused(self):
        server = self.serve("--cache-config", "redis,host=a", wait=False)
        self.assertNotEqual(server.process.wait(30), 0)


if __name__ == "__main__":
    server_test.DUNLIN = sys.argv[1]
    unittest.main(argv=[sys.argv[0], *sys.argv[2:]])
