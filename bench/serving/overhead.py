#!/usr/bin/env python3
"""What the server costs beyond the model: CPU, latency and memory of requests that compute nothing.

    bench/serving/overhead.py [--dunlin build/release/dunlin] [--rounds 5] [--seconds 2] [--write docs/serving/overhead.md]

A server with identity models is loaded over loopback by wrk and by `dunlin perf`. Every case runs once per round, the
rounds follow each other, and the table has medians over rounds. CPU is user and system time per answered request: the
server's from /proc/PID/stat, the client's from the kernel's account of the ended child. Clients and server share the
machine's CPUs. Cases that the server or this machine cannot run are listed with the reason.

The floor of a case is what build/release/serving_echo (bench/serving/echo.cc) takes for it, in the same rounds: one
thread that finds the tensor in the request and sends it back. It is what the kernel's sockets cost on this machine.
"""

import argparse
import datetime
import json
import os
import pathlib
import re
import shutil
import socket
import statistics
import struct
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "tests" / "cli"), str(ROOT / "tests" / "server")]
import onnx_bytes as onnx  # noqa: E402
import server_test  # noqa: E402

HOST = server_test.HOST
SMALL, LARGE = 16, 1 << 18  # floats: 64 bytes and 1 MiB
IDLE = 2000
MODELS = 20
FLAGS = ["--allow-client-shm=true"]


def identity(floats):
    port = [onnx.value(name, onnx.tensor_type(onnx.FLOAT, ["N", floats])) for name in ("x", "y")]
    return onnx.model([onnx.node("Identity", ["x"], ["y"])], port[:1], port[1:])


def write_model(repository, name, floats, batching=""):
    folder = repository / name / "1"
    folder.mkdir(parents=True)
    (folder / "model.onnx").write_bytes(identity(floats))
    (folder.parent / "config.pbtxt").write_text(
        f'max_batch_size: 64\ninput {{ name: "x" data_type: TYPE_FP32 dims: {floats} }}\n'
        f'output {{ name: "y" data_type: TYPE_FP32 dims: {floats} }}\n{batching}')


def cpu_seconds(pid):
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def run_client(command):
    """Standard output of a command, and its CPU seconds."""
    process = subprocess.Popen([str(c) for c in command], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    out = process.stdout.read().decode()
    error = process.stderr.read().decode()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        raise RuntimeError((error or out).strip().splitlines()[-1])
    return out, usage.ru_utime + usage.ru_stime


class Bench:
    def __init__(self, dunlin, seconds, folder):
        server_test.DUNLIN = str(dunlin)
        self.dunlin, self.seconds, self.folder = dunlin, seconds, folder
        repository = folder / "models"
        write_model(repository, "identity", SMALL)
        write_model(repository, "batched", SMALL, "dynamic_batching { }\n")
        write_model(repository, "large", LARGE)
        self.server = start(repository)
        self.pid = self.server.process.pid
        echo = dunlin.parent / "serving_echo"
        self.echo = subprocess.Popen([echo], stdout=subprocess.PIPE) if echo.exists() else None
        self.echo_port = int(self.echo.stdout.readline()) if self.echo else None
        self.grpc = next((l["port"] for l in self.server.lines if l["event"] == "grpc listening"), None)

    def stop(self):
        self.server.stop()
        if self.echo:
            self.echo.kill()
            self.echo.wait()

    def wrk(self, model, connections, floats=SMALL):
        row = self.wrk_at(self.pid, self.server.http, model, connections, floats)
        if self.echo:
            row["floor"] = self.wrk_at(self.echo.pid, self.echo_port, model, connections, floats)["server"]
        return row

    def wrk_at(self, pid, port, model, connections, floats):
        tensor = {"name": "x", "shape": [1, floats], "datatype": "FP32", "parameters": {"binary_data_size": 4 * floats}}
        header = json.dumps({"inputs": [tensor], "parameters": {"binary_data_output": True}}).encode()
        body = self.folder / "body"
        body.write_bytes(header + struct.pack(f"<{floats}f", *range(floats)))
        script = self.folder / "request.lua"
        script.write_text(f'wrk.method = "POST"\nlocal f = io.open("{body}", "rb")\nwrk.body = f:read("*a")\n'
                          f'wrk.headers["Inference-Header-Content-Length"] = "{len(header)}"\n')
        if shutil.which("wrk") is None:
            raise RuntimeError("wrk is not installed")
        before = cpu_seconds(pid)
        url = f"http://{HOST}:{port}/v2/models/{model}/infer"
        out, client = run_client(["wrk", "-t1", f"-c{connections}", f"-d{self.seconds}s", "--latency", "-s", script, url])
        server = cpu_seconds(pid) - before
        bad = re.search(r"Non-2xx or 3xx responses: (\d+)|Socket errors: (.*)", out)
        if bad:
            raise RuntimeError(bad[0])
        count = int(re.search(r"(\d+) requests in", out)[1])
        p50, unit = re.search(r"50%\s+([\d.]+)(us|ms|s)", out).groups()
        rate = float(re.search(r"Requests/sec:\s+([\d.]+)", out)[1])
        scale = {"us": 1, "ms": 1e3, "s": 1e6}[unit]
        return {"rate": rate, "p50": float(p50) * scale, "server": server / count * 1e6, "client": client / count * 1e6}

    def perf(self, model, connections, *flags, grpc=False):
        if grpc and self.grpc is None:
            raise RuntimeError("this server speaks no gRPC")
        url = f"grpc://{HOST}:{self.grpc}" if grpc else f"http://{HOST}:{self.server.http}"
        out, _ = run_client([self.dunlin, "perf", url, model, "--concurrency", connections, "--seconds", self.seconds,
                             "--warmup", 0.3, "--server-pid", self.pid, "--json", *flags])
        level = json.loads(out)["levels"][0]
        if level["failed"] or level["wrong"]:
            raise RuntimeError(f"{level['failed']} errors, {level['wrong']} wrong answers: {level['errors']}")
        return {"rate": level["answers_per_s"], "p50": level["latency_us"]["p50"], "server": level["server_cpu_us"],
                "client": level["client_cpu_us"]}

    def cases(self):
        """Name, limit on the server's CPU microseconds or the rate, how to measure."""
        return [
            ("HTTP, 16 floats, 1 connection, wrk", "server <= 36", lambda: self.wrk("identity", 1)),
            ("HTTP, 16 floats, 64 connections, wrk", "server <= 14, >= 85 000/s", lambda: self.wrk("identity", 64)),
            ("HTTP, 16 floats, 1 connection", "server <= 36", lambda: self.perf("identity", 1)),
            ("HTTP, 16 floats, 64 connections", "server <= 14", lambda: self.perf("identity", 64)),
            ("the same with dynamic batching, 1 connection", "p50 + <= 5", lambda: self.perf("batched", 1)),
            ("the same with dynamic batching, 64 connections", "", lambda: self.perf("batched", 64)),
            ("gRPC, 16 floats, 1 stream", "server <= 65", lambda: self.perf("identity", 1, grpc=True)),
            ("gRPC, 16 floats, 16 streams", "server <= 25", lambda: self.perf("identity", 16, grpc=True)),
            ("HTTP, 1 MiB in and out, 2 connections, wrk", "server <= 400", lambda: self.wrk("large", 2, LARGE)),
            ("HTTP, 1 MiB in and out, 2 connections", "server <= 400", lambda: self.perf("large", 2, "--payloads", 4, "--no-check")),
            ("HTTP, 1 MiB in and out in shared memory, 2 connections", "",
             lambda: self.perf("large", 2, "--payloads", 4, "--no-check", "--shared-memory", "system")),
        ]


def start(repository):
    try:
        return server_test.Server(repository, *FLAGS)
    except AssertionError as e:  # a server that has not all flags
        print(f"starting without {FLAGS}: {e}", file=sys.stderr)
        return server_test.Server(repository)


def measure(bench, rounds):
    """[(name, limit, medians or the reason there are none)]"""
    cases = bench.cases()
    found = {name: [] for name, _, _ in cases}
    reasons = {}
    for number in range(rounds):
        for name, _, run in cases:
            if name in reasons:
                continue
            try:
                found[name].append(run())
            except RuntimeError as e:
                reasons[name] = str(e)
        print(f"round {number + 1} of {rounds}", file=sys.stderr)
    medians = lambda rows: {key: statistics.median(row[key] for row in rows) for key in rows[0]}
    return [(name, limit, reasons.get(name) or medians(found[name])) for name, limit, _ in cases]


def idle_connections(server):
    """Bytes that IDLE connections take, which have each been used once."""
    path = b"GET /v2/health/ready HTTP/1.1\r\nHost: x\r\n\r\n"
    sockets = []
    try:
        for _ in range(20):  # threads and pools are there already
            server.ask("GET", "/v2/health/ready")
        time.sleep(0.5)
        before = server.rss()
        for _ in range(IDLE):
            s = socket.create_connection((HOST, server.http))
            sockets.append(s)
            s.sendall(path)
            s.recv(4096)
        time.sleep(0.5)
        return server.rss() - before
    finally:
        for s in sockets:
            s.close()


def start_up(dunlin, folder, rounds):
    """Milliseconds from exec until the log says that the server is ready, and resident bytes then."""
    repository = folder / "many"
    for i in range(MODELS):
        write_model(repository, f"model_{i}", SMALL)
    times, sizes = [], []
    for _ in range(rounds):
        began = time.perf_counter()
        server = start(repository)
        times.append((time.perf_counter() - began) * 1e3)
        sizes.append(server.rss())
        server.stop()
    return statistics.median(times), statistics.median(sizes)


def machine():
    name = next((l.split(":", 1)[1].strip() for l in open("/proc/cpuinfo") if l.startswith("model name")), "unknown CPU")
    return f"{name}, {os.cpu_count()} CPUs, Linux {os.uname().release.split('-')[0]}"


def report(rows, idle, ready, args, version):
    lines = ["| case | answers/s | p50 µs | server CPU µs | floor | client CPU µs | limit |", "|---|---:|---:|---:|---:|---:|---|"]
    for name, limit, row in rows:
        if isinstance(row, str):
            lines.append(f"| {name} | – | – | – | – | – | not measured: {row} |")
        else:
            floor = f"{row['floor']:.1f}" if "floor" in row else ""
            lines.append(f"| {name} | {row['rate']:,.0f} | {row['p50']:.1f} | {row['server']:.1f} | {floor} | {row['client']:.1f} | {limit} |")
    lines += ["", "| memory and start | measured | limit |", "|---|---:|---|",
              f"| {IDLE:,} idle connections | {idle / 1e6:.1f} MB | < 50 MB |",
              f"| ready with {MODELS} small models | {ready[0]:.0f} ms | <= 50 ms |",
              f"| resident then | {ready[1] / 2**20:.1f} MiB | |"]
    head = f"""# Overhead of serving

Written by `bench/serving/overhead.py`; do not edit. Requests that compute nothing show what the server itself costs. CPU is user and
system time per answered request. Server and client share the machine, so rates depend on both; medians of {args.rounds} rounds of
{args.seconds} s each. "limit" is what Dunlin sets out to keep. Cases without a tool's name are measured by `dunlin perf`. "floor" is the
server CPU of `serving_echo` ([bench/serving/echo.cc](../../bench/serving/echo.cc)) under the same load in the same rounds: one thread
that sends the tensor back, without HTTP parsing, JSON, model or statistics.

{machine()}; {datetime.date.today()}; {version}

"""
    return head + "\n".join(lines) + "\n"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dunlin", type=pathlib.Path, default=ROOT / "build/release/dunlin")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=2)
    parser.add_argument("--write", type=pathlib.Path, help="also write the page here")
    args = parser.parse_args()
    dunlin = args.dunlin.resolve()
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        bench = Bench(dunlin, args.seconds, folder)
        try:
            idle = idle_connections(bench.server)
            rows = measure(bench, args.rounds)
        finally:
            bench.stop()
        ready = start_up(dunlin, folder, 2 * args.rounds + 1)
    version = subprocess.run([dunlin, "--version"], capture_output=True, text=True).stdout.strip()
    page = report(rows, idle, ready, args, version)
    print(page)
    if args.write:
        args.write.write_text(page)
    return 0


if __name__ == "__main__":
    sys.exit(main())
