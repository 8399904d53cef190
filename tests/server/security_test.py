#!/usr/bin/env python3
"""Who may call what: tokens, roles, restricted groups, their files, and that secrets stay secret.

    tests/server/security_test.py DUNLIN [unittest options]
"""

import json
import pathlib
import signal
import sys
import tempfile
import time
import unittest

import server_test
from server_test import Case, add_model, request_json

INFER, ADMIN, METRICS = "infer-token-4711-abcdef", "admin-token-4711-abcdef", "scrape-token-4711-abcdef"
TOKENS = f"# who\n{INFER} infer shop\n{ADMIN} admin operations\n{METRICS} metrics prometheus\n"


class Security(Case):
    def setUp(self):
        super().setUp()
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)
        self.write("double/1/model.onnx", add_model())

    def secret(self, name, text, mode=0o600):
        path = self.folder / name
        path.write_text(text)
        path.chmod(mode)
        return str(path)

    def status(self, server, method, path, token=None, body=None, **options):
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        return server.ask(method, path, body, headers, **options)[0]

    def test_each_role_opens_its_routes(self):
        server = self.serve("--auth-tokens-file", self.secret("tokens", TOKENS), "--model-control-mode", "explicit",
                            "--load-model", "double")
        infer = ("POST", "/v2/models/double/infer")
        routes = {  # route: status without a token, for infer, metrics, admin
            ("GET", "/v2/health/live"): (200, 200, 200, 200),
            ("GET", "/v2/health/ready"): (200, 200, 200, 200),
            ("GET", "/v2/models/double/ready"): (200, 200, 200, 200),
            infer: (401, 200, 403, 200),
            ("GET", "/v2"): (401, 200, 403, 200),
            ("GET", "/v2/models/double"): (401, 200, 403, 200),
            ("GET", "/v2/models/double/config"): (401, 200, 403, 200),
            ("GET", "/v2/models/double/stats"): (401, 200, 200, 200),
            ("POST", "/v2/repository/index"): (401, 403, 403, 200),
            ("POST", "/v2/repository/models/double/load"): (401, 403, 403, 200),
            ("GET", "/v2/trace/setting"): (401, 403, 403, 200),
            ("GET", "/v2/logging"): (401, 403, 403, 200),
        }
        for (method, path), expected in routes.items():
            body = request_json() if (method, path) == infer else None
            got = tuple(self.status(server, method, path, token, body) for token in (None, INFER, METRICS, ADMIN))
            self.assertEqual(got, expected, (method, path))
        scrape = tuple(self.status(server, "GET", "/metrics", token, port=server.metrics) for token in (None, INFER, METRICS, ADMIN))
        self.assertEqual(scrape, (401, 403, 200, 200))
        self.assertEqual(self.status(server, *infer, INFER[:-1], request_json()), 401)
        self.assertEqual(self.status(server, *infer, INFER + "x", request_json()), 401)
        status, headers, body = server.ask(*infer, request_json())
        self.assertEqual((status, headers.get("www-authenticate")), (401, "Bearer"))
        self.assertIn("bearer token", json.loads(body)["error"])
        self.assertEqual(server.stop(), 0)
        told = json.dumps(server.lines)
        for token in (INFER, ADMIN, METRICS):
            self.assertNotIn(token, told)

    def test_the_metrics_port_asks_too(self):
        path = self.secret("tokens", TOKENS)
        server = self.serve("--auth-tokens-file", path)
        scrape = lambda token: self.status(server, "GET", "/metrics", token, port=server.metrics)
        self.assertEqual([scrape(t) for t in (None, INFER, METRICS, ADMIN)], [401, 403, 200, 200])
        self.assertEqual(server.ask("GET", "/metrics", port=server.metrics)[1].get("www-authenticate"), "Bearer")
        self.secret("tokens", "fresh-token-0123456789 metrics\n")
        server.process.send_signal(signal.SIGHUP)
        server.wait_for("reloaded")
        self.assertEqual([scrape(t) for t in (METRICS, "fresh-token-0123456789")], [401, 200])
        self.assertEqual(server.stop(), 0)
        for token in (INFER, ADMIN, METRICS):
            self.assertNotIn(token, json.dumps(server.lines))

    def test_tokens_change_on_sighup(self):
        path = self.secret("tokens", TOKENS)
        server = self.serve("--auth-tokens-file", path)
        ask = lambda token: self.status(server, "GET", "/v2/models/double", token)
        self.secret("tokens", "new-token-0123456789 infer\n")
        self.assertEqual(ask(INFER), 200)
        server.process.send_signal(signal.SIGHUP)
        end = time.monotonic() + 20
        while ask("new-token-0123456789") != 200:
            self.assertLess(time.monotonic(), end)
            time.sleep(0.05)
        self.assertEqual(ask(INFER), 401)
        self.secret("tokens", "no-roles-0123456789\n")
        server.process.send_signal(signal.SIGHUP)
        server.wait_for("reload failed, what was in force stays so")
        self.assertEqual(ask("new-token-0123456789"), 200)
        self.assertEqual(server.stop(), 0)

    def test_files_that_others_may_read_or_that_are_wrong_are_refused(self):
        for text, mode, message in ((TOKENS, 0o644, "holds secrets"), (TOKENS, 0o620, "holds secrets"),
                                    ("short infer\n", 0o600, "fewer than 16"), (f"{INFER} king\n", 0o600, "roles")):
            server = self.serve("--auth-tokens-file", self.secret("tokens", text, mode), wait=False)
            self.assertNotEqual(server.process.wait(30), 0)
            server.reader.join(5)
            told = json.dumps(server.lines)
            self.assertIn(message, told)
            self.assertNotIn(INFER, told)

    def test_restricted_groups(self):
        value = "a value=with: signs"
        server = self.serve(f"--http-restricted-api=model-config,statistics:admin-key=@{self.secret('value', value)}",
                            "--http-restricted-api=logging:other=1")
        ask = lambda path, headers=None: server.ask("GET", path, headers=headers)
        for path in ("/v2/models/double/config", "/v2/models/double/stats", "/v2/models/stats"):
            refused = ask(path)
            self.assertError(refused, 403, "This API is restricted, expecting header 'admin-key'")
            self.assertEqual(ask(path, {"Admin-Key": "wrong"})[0], 403)
            self.assertEqual(ask(path, {"Admin-Key": value})[0], 200)
        self.assertError(ask("/v2/logging", {"admin-key": value}), 403, "'other'")
        self.assertEqual(ask("/v2/logging", {"other": "1"})[0], 200)
        self.assertEqual(ask("/v2/models/double")[0], 200)
        command = pathlib.Path(f"/proc/{server.process.pid}/cmdline").read_text()
        self.assertNotIn(value, command)
        for flag in ("nonsense:k=v", "health", "health:k"):
            self.assertNotEqual(self.serve(f"--http-restricted-api={flag}", wait=False).process.wait(30), 0, flag)

    def test_closed_health(self):
        server = self.serve("--auth-tokens-file", self.secret("tokens", TOKENS), "--auth-open-health=false")
        self.assertEqual(self.status(server, "GET", "/v2/health/live"), 401)
        self.assertEqual(self.status(server, "GET", "/v2/health/live", METRICS), 200)


if __name__ == "__main__":
    server_test.DUNLIN = sys.argv[1]
    unittest.main(argv=[sys.argv[0], *sys.argv[2:]])
