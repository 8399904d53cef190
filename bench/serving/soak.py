#!/usr/bin/env python3
"""Ten minutes of everything at once: good clients that check every answer, and clients that behave badly.

    bench/serving/soak.py [--dunlin build/release/dunlin] [--minutes 10] [--quiet-seconds 20]

Good clients (HTTP, gRPC where the server speaks it, shared memory where it is allowed) run alone first, then together with
clients that vanish in the middle of a request, stall, send garbage, and hold connections. Fails when an answer was wrong, when
resident memory at the end is more than 2 % above what it was after the first tenth, when connections are left over, or when p99
of the good clients is more than 1.5 times that of the quiet run. Every client keeps to a rate or pauses: the point is what they do to each
other, not how much the machine bears.
"""

import argparse
import json
import os
import pathlib
import random
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time

import overhead
from overhead import HOST, SMALL

MODEL = "identity"


class Bad:
    """Threads that misuse the server until stopped; what they do is drawn from a seed that is printed."""

    def __init__(self, port, grpc, seed):
        self.port, self.grpc, self.stopping, self.counts = port, grpc, threading.Event(), {}
        deeds = [self.vanish, self.stall, self.garbage, self.hold, self.half_body]
        deeds += [self.grpc_garbage, self.grpc_vanish, self.grpc_hold] if grpc else []
        self.threads = [threading.Thread(target=self.run, args=(deed, random.Random(f"{seed} {deed.__name__}")), daemon=True)
                        for deed in deeds]
        for thread in self.threads:
            thread.start()

    def run(self, deed, random):
        while not self.stopping.is_set():
            try:
                deed(random)
            except OSError:
                pass  # the server closed first, which is its right
            self.counts[deed.__name__] = self.counts.get(deed.__name__, 0) + 1
            self.stopping.wait(random.uniform(0.01, 0.1))

    def connect(self, port=None):
        return socket.create_connection((HOST, port or self.port), timeout=5)

    def request(self, floats=SMALL):
        tensor = {"name": "x", "shape": [1, floats], "datatype": "FP32", "parameters": {"binary_data_size": 4 * floats}}
        header = json.dumps({"inputs": [tensor]}).encode()
        body = header + bytes(4 * floats)
        return (f"POST /v2/models/{MODEL}/infer HTTP/1.1\r\nHost: x\r\nInference-Header-Content-Length: {len(header)}\r\n"
                f"Content-Length: {len(body)}\r\n\r\n").encode() + body

    def vanish(self, random):
        """Sends whole requests and goes without an answer, by FIN or by RST."""
        with self.connect() as s:
            if random.random() < 0.5:
                s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            s.sendall(self.request() * random.randint(1, 3))

    def half_body(self, random):
        request = self.request()
        with self.connect() as s:
            s.sendall(request[:random.randint(1, len(request) - 1)])

    def stall(self, random):
        """A request, a byte now and then."""
        request = self.request()
        with self.connect() as s:
            for i in range(random.randint(1, 40)):
                s.sendall(request[i:i + 1])
                if self.stopping.wait(0.2):
                    return

    def garbage(self, random):
        whole = bytearray(self.request())
        kind = random.randrange(3)
        if kind == 0:
            whole = random.randbytes(random.randint(1, 4000))
        elif kind == 1:
            for _ in range(random.randint(1, 20)):
                whole[random.randrange(len(whole))] = random.randrange(256)
        else:
            whole = b"GET / HTTP/1.1\r\n" + b"X: " + random.randbytes(200_000).replace(b"\n", b"") + b"\r\n\r\n"
        with self.connect() as s:
            s.settimeout(0.5)
            s.sendall(whole)
            s.recv(4096)

    def hold(self, random):
        self.hold_some(random, self.port, b"")

    def hold_some(self, random, port, begin):
        held = [self.connect(port) for _ in range(50)]
        for s in held:
            s.sendall(begin)
        self.stopping.wait(random.uniform(0.5, 3))
        for s in held:
            s.close()

    # HTTP/2: a frame is a length, a type, flags and a stream; the first ones say who speaks.
    PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])

    def grpc_frames(self, random):
        frames = b""
        for _ in range(random.randint(1, 20)):
            body = random.randbytes(random.randint(0, 300))
            stream = random.choice([0, 1, 3, random.getrandbits(31)])
            frames += struct.pack(">I", len(body))[1:] + bytes([random.randrange(12), random.randrange(256)])
            frames += struct.pack(">I", stream) + body
        return frames

    def grpc_garbage(self, random):
        """Frames that are none, or none that fit."""
        with self.connect(self.grpc) as s:
            s.settimeout(0.5)
            s.sendall(random.randbytes(500) if random.random() < 0.3 else self.PREFACE + self.grpc_frames(random))
            s.recv(4096)

    def grpc_vanish(self, random):
        """Half a call: a head that lacks its end, or the frame of a message without the message."""
        path = b"/inference.GRPCInferenceService/ModelInfer"
        literal = lambda name, value: bytes([0, len(name)]) + name + bytes([len(value)]) + value
        head = literal(b":method", b"POST") + literal(b":scheme", b"http") + literal(b":path", path)
        head += literal(b":authority", b"x") + literal(b"content-type", b"application/grpc") + literal(b"te", b"trailers")
        frame = lambda kind, flags, body, size=None: (struct.pack(">I", len(body) if size is None else size)[1:]
                                                      + bytes([kind, flags, 0, 0, 0, 1]) + body)
        with self.connect(self.grpc) as s:
            s.sendall(self.PREFACE + frame(1, 4 if random.random() < 0.8 else 0, head))
            s.sendall(frame(0, 0, b"\0" + struct.pack(">I", 1 << random.randrange(31)) + random.randbytes(50), random.choice([55, 16000])))
            self.stopping.wait(random.uniform(0, 0.3))

    def grpc_hold(self, random):
        self.hold_some(random, self.grpc, self.PREFACE)

    def stop(self):
        self.stopping.set()
        for thread in self.threads:
            thread.join(10)


def good_clients(dunlin, server, grpc, seconds):
    """`dunlin perf` in an open loop, a process for each way to ask; they run at the same time."""
    url = f"http://{HOST}:{server.http}"
    ways = {"HTTP": [url], "shared memory": [url, "--shared-memory", "system"]}
    if grpc:
        ways["gRPC"] = [f"grpc://{HOST}:{grpc}"]
    processes = {}
    for name, (where, *flags) in ways.items():
        command = [dunlin, "perf", where, MODEL, "--request-rate", 200, "--warmup", 1, "--seconds", seconds, "--max-outstanding",
                   64, "--json", *flags]
        processes[name] = subprocess.Popen([str(c) for c in command], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    return processes


def results(processes):
    found = {}
    for name, process in processes.items():
        out, error = process.communicate()
        if not out:
            print(f"{name}: not run: {error.decode().strip().splitlines()[-1]}")
            continue
        found[name] = json.loads(out)["levels"][0]
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dunlin", type=pathlib.Path, default=overhead.ROOT / "build/release/dunlin")
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--quiet-seconds", type=float, default=20)
    parser.add_argument("--seed", type=int, default=int.from_bytes(os.urandom(4), "little"))
    args = parser.parse_args()
    dunlin = args.dunlin.resolve()
    overhead.server_test.DUNLIN = str(dunlin)
    with tempfile.TemporaryDirectory() as folder:
        repository = pathlib.Path(folder) / "models"
        overhead.write_model(repository, MODEL, SMALL, "dynamic_batching { }\n")
        server = overhead.start(repository)
        try:
            return soak(dunlin, server, args)
        finally:
            server.stop()


def open_files(server):
    return len(os.listdir(f"/proc/{server.process.pid}/fd"))


def soak(dunlin, server, args):
    files = open_files(server)
    grpc = next((l["port"] for l in server.lines if l["event"] == "grpc listening"), None)
    quiet = results(good_clients(dunlin, server, grpc, args.quiet_seconds))
    seconds = args.minutes * 60
    print(f"quiet run done; bad clients join for {args.minutes:g} minutes, seed {args.seed}", flush=True)
    bad = Bad(server.http, grpc, args.seed)
    processes = good_clients(dunlin, server, grpc, seconds)
    time.sleep(seconds / 10)  # pools and caches fill first
    first = server.rss()
    time.sleep(seconds * 0.85)
    last = server.rss()
    loud = results(processes)
    bad.stop()
    failures = []
    if server.process.poll() is not None:
        failures.append(f"the server ended with {server.process.returncode}")
    for name, level in loud.items():
        before, after = quiet[name]["latency_us"]["p99"], level["latency_us"]["p99"]
        print(f"{name}: {level['answered']} answers, {level['wrong']} wrong, {level['failed']} failed {level['errors']}, "
              f"{level['not_sent']} not sent, p99 {after / 1e3:.2f} ms, quiet {before / 1e3:.2f} ms ({after / before:.2f} times)")
        if level["wrong"] or level["failed"]:
            failures.append(f"{name}: {level['wrong']} wrong answers, {level['failed']} errors")
        if after > 1.5 * before:
            failures.append(f"{name}: p99 is {after / before:.2f} times that of the quiet run")
    print(f"bad clients: {bad.counts}")
    patience = time.monotonic() + 10
    while open_files(server) > files and time.monotonic() < patience:
        time.sleep(0.1)
    if open_files(server) > files:
        failures.append(f"{open_files(server) - files} more open files than at the start")
    print(f"resident: {first / 2**20:.1f} MiB after a tenth, {last / 2**20:.1f} MiB at the end ({last / first - 1:+.1%})")
    if last > 1.02 * first:
        failures.append("resident memory grew by more than 2 %")
    print("\n".join(f"FAILED: {f}" for f in failures) or "passed")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
