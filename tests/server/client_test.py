#!/usr/bin/python3
"""`dunlin infer` and `dunlin perf` against the real server: TLS, shared memory, classification, text.

    tests/server/client_test.py DUNLIN [unittest options]
"""

import json
import os
import pathlib
import struct
import subprocess
import sys
import tempfile
import unittest

import server_test
from http_protocol_test import identity_model
from http_security_test import Certificates
from server_test import HOST, Case, Server, add_model, onnx

USAGE, INPUT, SERVER = 2, 5, 6


def command(*words):
    done = subprocess.run([server_test.DUNLIN, *map(str, words)], capture_output=True, timeout=60)
    return done.returncode, done.stdout.decode(), done.stderr.decode()


class ClientCase(Case):
    TEXT = ["a", "", "ü" * 40]

    @classmethod
    def setUpClass(cls):
        folder = tempfile.TemporaryDirectory()
        cls.addClassCleanup(folder.cleanup)
        cls.folder = pathlib.Path(folder.name)
        models = {"double": add_model(), "text": identity_model(onnx.STRING, ["N", 3])}
        for name, model in models.items():
            path = cls.folder / "models" / name / "1" / "model.onnx"
            path.parent.mkdir(parents=True)
            path.write_bytes(model)
        (cls.folder / "models/double/config.pbtxt").write_text(
            'max_batch_size: 8 output { name: "y" data_type: TYPE_FP32 dims: 4 label_filename: "labels" }')
        (cls.folder / "models/double/labels").write_text("zero\none\ntwo\nthree\n")
        (cls.folder / "x.bin").write_bytes(struct.pack("<4f", 1, 3, 2, 4))
        cls.start()

    def infer(self, *words, code=0):
        done = command("infer", self.url, *words, *self.TRUST)
        self.assertEqual(done[0], code, done)
        return done[1] if code == 0 else done[2]

    def perf(self, *words, code=0):
        done = command("perf", self.url, *words, *self.TRUST, "--warmup", 0.1, "--seconds", 0.3, "--json")
        self.assertEqual(done[0], code, done)
        if code:
            return done[2]
        (level,) = json.loads(done[1])["levels"]
        self.assertEqual((level["failed"], level["wrong"]), (0, 0), level)
        self.assertGreater(level["answered"], 5)
        return level


class Plain(ClientCase):
    TRUST = ()

    @classmethod
    def start(cls):
        cls.server = Server(cls.folder / "models", "--allow-client-shm", "true")
        cls.addClassCleanup(cls.server.kill)
        cls.url = f"http://{HOST}:{cls.server.http}"

    def regions(self):
        return json.loads(self.server.ask("GET", "/v2/systemsharedmemory/status")[2])

    def left_behind(self):
        """Regions of processes that have ended: their names end in its number."""
        names = [n for n in os.listdir("/dev/shm") if n.startswith(("dunlin_infer", "dunlin_perf"))]
        return [n for n in names if not os.path.exists("/proc/" + n.rpartition("_")[2])]

    def test_classification(self):
        words = ["double", "--input", f"x={self.folder}/x.bin", "--shape", "1,4", "--classification", 2]
        lines = [l.split() for l in self.infer(*words).splitlines()]
        self.assertEqual(lines, [["y:"], ["8.000000", "3", "three"], ["6.000000", "1", "one"]])
        self.infer(*words[:-1], 0, code=USAGE)
        self.infer("text", "--classification", 1, code=SERVER)

    def test_shared_memory(self):
        words = ["double", "--input", f"x={self.folder}/x.bin", "--shape", "1,4"]
        self.assertEqual(self.infer(*words, "--shared-memory", "system"), self.infer(*words))
        self.assertEqual(self.regions(), [])
        self.perf("double", "--shared-memory", "system", "--concurrency", 4)
        self.perf("text", "--shared-memory", "system")
        self.assertEqual(self.regions(), [])
        self.assertEqual(self.left_behind(), [])

    def test_text(self):
        plain = self.infer("text", "--seed", 5)
        self.assertRegex(plain, r"y: string \[1, ?3\]")
        self.assertEqual(self.infer("text", "--seed", 5, "--shared-memory", "system"), plain)
        self.infer("text", "--seed", 5, "--output-dir", self.folder / "out")
        self.perf("text", "--concurrency", 2, "--batch", 2)

    def test_parameters(self):
        self.infer("double", "--parameter", "timeout=60000000", "--parameter", "note=a=b")
        self.perf("double", "--parameter", "priority=0")
        for call in (self.infer, self.perf):
            self.assertIn("give it as NAME=VALUE", call("double", "--parameter", "nonsense", code=USAGE))
            self.assertIn("reserved", call("double", "--parameter", "triton_x=1", code=SERVER))

    def test_an_output_that_is_not_there(self):
        for call in (self.infer, self.perf):
            self.assertIn("unexpected inference output 'z'", call("double", "--output", "z", code=SERVER))
        self.assertIn("y: ", self.infer("double", "--output", "y"))


class NoSharedMemory(ClientCase):
    TRUST = ()

    @classmethod
    def start(cls):
        cls.server = Server(cls.folder / "models")
        cls.addClassCleanup(cls.server.kill)
        cls.url = f"http://{HOST}:{cls.server.http}"

    def test_the_refusal_is_passed_on(self):
        for call in (self.infer, self.perf):
            self.assertIn("--allow-client-shm=true", call("double", "--shared-memory", "system", code=SERVER))
        self.assertEqual([n for n in os.listdir("/dev/shm") if n.startswith("dunlin_infer_") or n.startswith("dunlin_perf_")], [])


class Tls(ClientCase):
    @classmethod
    def start(cls):
        files = Certificates(cls.folder)
        cls.files = files
        cls.server = Server(cls.folder / "models", "--http-ssl-cert-file", str(files.path("server.pem")), "--http-ssl-key-file",
                            str(files.path("server.key")), "--http-ssl-client-ca-file", str(files.path("ca.pem")),
                            "--allow-client-shm", "true")
        cls.addClassCleanup(cls.server.kill)
        cls.url = f"https://{HOST}:{cls.server.http}"
        cls.TRUST = ("--ca-file", files.path("ca.pem"), "--cert", files.path("client.pem"), "--key", files.path("client.key"))

    def test_both_over_tls(self):
        self.assertIn("y: ", self.infer("double"))
        self.perf("double", "--concurrency", 4)
        self.perf("text", "--request-rate", 100)
        self.perf("double", "--shared-memory", "system")

    def test_who_is_not_trusted(self):
        stranger = ("--cert", self.files.path("stranger.pem"), "--key", self.files.path("stranger.key"))
        for kind in ("infer", "perf"):
            code, _, error = command(kind, self.url, "double")  # an authority that this machine does not know
            self.assertEqual(code, SERVER, error)
            code, _, error = command(kind, self.url, "double", "--ca-file", self.files.path("ca.pem"))
            self.assertEqual(code, SERVER, error)
            code, _, error = command(kind, self.url, "double", "--ca-file", self.files.path("ca.pem"), *stranger)
            self.assertEqual(code, SERVER, error)
            code, _, error = command(kind, self.url, "double", "--ca-file", self.folder / "none.pem")
            self.assertNotEqual(code, 0, error)
            self.assertIn("none.pem", error)


if __name__ == "__main__":
    server_test.DUNLIN = sys.argv[1]
    unittest.main(argv=[sys.argv[0], *sys.argv[2:]])
