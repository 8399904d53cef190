#!/usr/bin/python3
"""Requests of different lengths against a server: packed, and padded by the client, interleaved.

    bench/serving/ragged.py [MODEL.onnx] [--concurrency 4,8,16] [--rounds 7] [--requests 160]

One server holds the model twice, with dynamic batching and no other setting: `ragged` takes requests as long as they are, `padded` gets
the same ones filled up to 128 tokens and masked, as clients do for servers that need equal shapes. Lengths are drawn from 8 to 128. Every
line is the median over the rounds, of rates and of the ratio of one round; the server's CPU time is the process's.
"""

import argparse
import concurrent.futures
import http.client
import json
import os
import pathlib
import random
import shutil
import statistics
import struct
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests" / "server"))
import server_test  # noqa: E402

SHORTEST, LONGEST, WORDS = 8, 128, 5000
NAMES = ["input_ids", "attention_mask", "token_type_ids"]
CONFIG = """max_batch_size: 32
dynamic_batching { }
"""
RAGGED = "".join('input { name: "%s" data_type: TYPE_INT64 dims: [ -1 ] allow_ragged_batch: %%s }\n' % name for name in NAMES)


def make_repository(folder, model):
    for name in ("ragged", "padded"):
        version = folder / name / "1"
        version.mkdir(parents=True)
        os.symlink(model.resolve(), version / "model.onnx")
        flag = "true" if name == "ragged" else "false"
        (folder / name / "config.pbtxt").write_text(CONFIG + RAGGED.replace("%s", flag))


def body(tokens, length):
    """The request in binary form: `tokens`, filled up to `length` with what the mask hides."""
    rows = [tokens, [1] * len(tokens), [0] * len(tokens)]
    data = b"".join(struct.pack(f"<{length}q", *row, *[0] * (length - len(row))) for row in rows)
    inputs = [{"name": name, "shape": [1, length], "datatype": "INT64", "parameters": {"binary_data_size": 8 * length}} for name in NAMES]
    outputs = [{"name": "pooler_output", "parameters": {"binary_data": True}}]
    head = json.dumps({"inputs": inputs, "outputs": outputs}).encode()
    return head + data, len(head)


def draw(seed, count):
    rng = random.Random(seed)
    lengths = [rng.randint(SHORTEST, LONGEST) for _ in range(count)]
    requests = [[rng.randrange(WORDS) for _ in range(n)] for n in lengths]
    return {"ragged": [body(r, len(r)) for r in requests], "padded": [body(r, LONGEST) for r in requests]}


def client(port, model, bodies):
    connection = http.client.HTTPConnection("127.0.0.1", port)
    for data, head in bodies:
        connection.request("POST", f"/v2/models/{model}/infer", data, {"Inference-Header-Content-Length": str(head)})
        reply = connection.getresponse()
        text = reply.read()
        assert reply.status == 200, text
    connection.close()


def cpu_seconds(pid):
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def run(server, model, bodies, concurrency):
    """Requests per second, and milliseconds of the server's CPU for each."""
    cpu, begin = cpu_seconds(server.process.pid), time.perf_counter()
    with concurrent.futures.ThreadPoolExecutor(concurrency) as pool:
        list(pool.map(lambda i: client(server.http, model, bodies[i::concurrency]), range(concurrency)))
    seconds = time.perf_counter() - begin
    return len(bodies) / seconds, (cpu_seconds(server.process.pid) - cpu) / len(bodies) * 1e3


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="?", type=pathlib.Path, default=ROOT / "build/bench-models/minilm.onnx")
    parser.add_argument("--concurrency", default="4,8,16")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--requests", type=int, default=160)
    parser.add_argument("--dunlin", default=str(ROOT / "build/release/dunlin"))
    args = parser.parse_args()
    server_test.DUNLIN = args.dunlin
    folder = pathlib.Path(tempfile.mkdtemp())
    make_repository(folder, args.model)
    server = server_test.Server(folder)
    print("| concurrency | padded req/s | ragged req/s | ratio | padded CPU ms | ragged CPU ms |\n|---:|---:|---:|---:|---:|---:|")
    try:
        for concurrency in map(int, args.concurrency.split(",")):
            found = {"padded": [], "ragged": []}
            for seed in range(-1, args.rounds):  # the first one warms up
                bodies = draw(seed, args.requests)
                for model, list_ in found.items():
                    result = run(server, model, bodies[model], concurrency)
                    if seed >= 0:
                        list_.append(result)
            ratio = statistics.median(r[0] / p[0] for p, r in zip(found["padded"], found["ragged"]))
            rate, cpu = ({m: statistics.median(x[i] for x in found[m]) for m in found} for i in (0, 1))
            print(f"| {concurrency} | {rate['padded']:.0f} | {rate['ragged']:.0f} | **{ratio:.2f}** | {cpu['padded']:.1f} | {cpu['ragged']:.1f} |", flush=True)
    finally:
        server.process.terminate()
        server.process.wait()
        shutil.rmtree(folder)


main()
