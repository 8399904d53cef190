#!/usr/bin/python3
"""What batching settings are worth on this machine, and whether Dunlin finds them by itself.

    bench/serving/batching.py throughput ppocr_cls --concurrency 16 --results cls.jsonl
    bench/serving/batching.py slo minilm --length 32 --loads 10,50,90 --results slo.jsonl
    bench/serving/batching.py table --results cls.jsonl

A model is a name of bench/models.json. One server has it under every setting, each as a model of its own, and `dunlin perf`
loads them one after the other, in rounds and in a new order each, so that a slow minute of a shared machine meets all of them.
`throughput`: closed loop; each round also times both engines without a server, this one and ONNX Runtime, which bound what any
server could do in that round. `slo`: open loop, Poisson arrivals, at shares of what was answered without batching
just before; the SLO is told to `auto` alone, for the others have nothing to tell it to.
Every measurement is a line of --results, to which further runs append; `table` prints medians over all of them.
"""

import argparse
import json
import os
import pathlib
import random
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "bench"), str(ROOT / "tests" / "cli"), str(ROOT / "tests" / "server")]
import compare  # noqa: E402
import server_test  # noqa: E402

DUNLIN = ROOT / "build/release/dunlin"
ENGINES = {"engine alone": [ROOT / "build/release/bench_worker"], "ONNX Runtime alone": ["node", ROOT / "tools/ort_worker.mjs"]}
AUTO, NONE = "auto", "no batching"


def settings(max_batch, slo_ms):
    """Name → config.pbtxt: auto, no batching, and the grid of hand settings."""
    base = f"max_batch_size: {max_batch}\n"
    slo = f'parameters {{ key: "slo_p99_ms" value {{ string_value: "{slo_ms}" }} }}\n' if slo_ms else ""
    grid = {AUTO: base + "dynamic_batching { }\n" + slo, NONE: base}
    for count, threads in ((1, 2), (2, 1)):
        run = (f"instance_group {{ count: {count} }}\n"
               f'parameters {{ key: "intra_op_thread_count" value {{ string_value: "{threads}" }} }}\n')
        grid[f"{count} × {threads} thread(s)"] = base + run
        for size in (4, max_batch):
            for delay in (0, 2000):
                batching = f"dynamic_batching {{ preferred_batch_size: {size} max_queue_delay_microseconds: {delay} }}\n"
                grid[f"{count} × {threads}, batches of {size}, delay {delay // 1000} ms"] = base + batching + run
    return grid


class Others:
    """CPUs that neither these processes nor ended children used meanwhile: how disturbed a measurement is."""

    def __init__(self, pids):
        self.pids = pids
        self.before, self.began = self.seconds(), time.monotonic()

    def seconds(self):
        ticks = sum(int(word) for i, word in enumerate(open("/proc/stat").readline().split()[1:9]) if i not in (3, 4))
        for pid in self.pids:
            ticks -= sum(int(word) for word in pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[11:13])
        ended = resource.getrusage(resource.RUSAGE_CHILDREN)
        own = time.process_time()
        return ticks / os.sysconf("SC_CLK_TCK") - ended.ru_utime - ended.ru_stime - own

    def cpus(self):
        return max(0, (self.seconds() - self.before) / (time.monotonic() - self.began))


class Load:
    """A server that has the model under every setting, as `s0`, `s1` …, and what to send it."""

    def __init__(self, path, inputs, grid):
        self.folder = tempfile.TemporaryDirectory()
        for i, config in enumerate(grid.values()):
            version = pathlib.Path(self.folder.name) / f"s{i}" / "1"
            version.mkdir(parents=True)
            shutil.copy(path, version / "model.onnx")
            (version.parent / "config.pbtxt").write_text(config)
        server_test.DUNLIN = str(DUNLIN)
        self.names = list(grid)
        self.server = server_test.Server(self.folder.name)
        self.flags = ["--no-check", "--server-pid", self.server.process.pid]
        for name, spec in inputs.items():
            self.flags += ["--shape", f"{name}=" + ",".join(str(1 if n == "batch" else n) for n in spec["shape"])]
            if "fill" in spec:
                self.flags += ["--fill", f"{name}={spec['fill']}"]
            if "below" in spec:
                self.flags += ["--intmax", spec["below"]]

    def run(self, name, seconds, *load):
        command = [DUNLIN, "perf", f"http://{server_test.HOST}:{self.server.http}", f"s{self.names.index(name)}", *load,
                   "--warmup", min(1, seconds / 2), "--seconds", seconds, "--json", *self.flags]
        others = Others([self.server.process.pid])
        done = subprocess.run([str(c) for c in command], capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise RuntimeError(done.stderr or done.stdout)
        level = json.loads(done.stdout)["levels"][0]
        if level["failed"]:
            raise RuntimeError(f"{name}: {level['errors']}")
        server = level["server"]
        return {"setting": name, "rate": level["answers_per_s"], "p50": level["latency_us"]["p50"] / 1000,
                "p99": level["latency_us"]["p99"] / 1000, "sent": level["sent"],
                "buckets": level["latency_us"]["buckets"], "batch": server["inferences"] / max(1, server["executions"]),
                "server_cpu": level["server_cpu_us"], "client_cpu": level["client_cpu_us"], "others": others.cpus()}

    def close(self):
        self.server.stop()
        self.folder.cleanup()


class Yardstick:
    """An engine on both CPUs without a server: two processes of one thread, side by side."""

    def __init__(self, name, command, path, inputs, batch):
        self.name, self.batch = f"{name}, 2 × 1 thread, batches of {batch}", batch
        self.folder = tempfile.TemporaryDirectory()
        files = compare.save_inputs({"inputs": inputs}, batch, self.folder.name)
        self.workers = [compare.Worker(command, path, 1, files) for _ in range(2)]
        for worker in self.workers:
            worker.run(3)

    def run(self, seconds):
        count = max(3, round(seconds * 1000 / statistics.median(self.workers[0].run(5)) / 1.5))
        others = Others([worker.process.pid for worker in self.workers])
        for worker in self.workers:
            worker.send(count)
        rate = sum(self.batch * 1000 * count / sum(worker.receive()) for worker in self.workers)
        return {"setting": self.name, "rate": rate, "others": others.cpus()}

    def close(self):
        for worker in self.workers:
            worker.close()
        self.folder.cleanup()


def throughput(args, path, inputs, grid, write):
    load = Load(path, inputs, grid)
    yardsticks = [Yardstick(name, command, path, inputs, batch) for batch in args.batches for name, command in ENGINES.items()]
    try:
        for number in range(args.rounds):
            began = time.time()
            for name in random.sample(list(grid), len(grid)):
                write(load.run(name, args.seconds, "--concurrency", args.concurrency), began)
            for yardstick in yardsticks:
                write(yardstick.run(args.seconds), began)
            print(f"round {number + 1} of {args.rounds}", file=sys.stderr)
    finally:
        for each in [load, *yardsticks]:
            each.close()


def slo(args, path, inputs, grid, write):
    load = Load(path, inputs, grid)
    try:
        for name in grid:  # what plans there are to be made is made before
            load.run(name, 0.3, "--concurrency", 2 * args.max_batch)
        for _ in range(args.rounds):
            for share in args.loads:
                began = time.time()
                most = load.run(NONE, args.seconds, "--concurrency", args.concurrency)["rate"]  # at present
                for name in random.sample(list(grid), len(grid)):
                    row = load.run(name, args.seconds, "--request-rate", most * share / 100)
                    write(row | {"share": share, "capacity": most, "slo": args.slo_ms}, began)
    finally:
        load.close()


def medians(rows, key, columns):
    """[(name, {column: median})], the settings in the order of their grid."""
    groups = {}
    for row in rows:
        groups.setdefault(row[key], []).append(row)
    return [(name, {c: statistics.median(r[c] for r in group) for c in columns if c in group[0]}) for name, group in groups.items()]


def throughput_table(rows):
    auto = statistics.median(row["rate"] for row in rows if row["setting"] == AUTO)
    for row in rows:
        row["share"] = auto / row["rate"]
    lines = ["| | items/s | `auto` against it | p99 ms | mean batch | server CPU µs | client CPU µs |", "|---|---:|---:|---:|---:|---:|---:|"]
    for name, m in medians(rows, "setting", ["rate", "share", "p99", "batch", "server_cpu", "client_cpu"]):
        rest = f"{m['p99']:.1f} | {m['batch']:.1f} | {m['server_cpu']:.0f} | {m['client_cpu']:.0f}" if "p99" in m else "| | |"
        lines.append(f"| {name} | {m['rate']:.0f} | {m['share']:.2f} | {rest} |")
    return lines


def goodput(rows):
    """Of the requests of these rounds, the share that was answered within the SLO; p50 and p99 of all together, in ms."""
    buckets = sorted(tuple(bucket) for row in rows for bucket in row["buckets"])
    count = sum(n for _, n in buckets)
    good = sum(n for upper, n in buckets if upper <= rows[0]["slo"] * 1000)

    def percentile(percent):
        seen = 0
        for upper, n in buckets:
            seen += n
            if seen >= count * percent / 100:
                return upper / 1000

    return good / max(1, sum(row["sent"] for row in rows)), percentile(50), percentile(99)


def slo_table(rows):
    shares = sorted({row["share"] for row in rows})
    names = list(dict.fromkeys(row["setting"] for row in rows))
    lines = [f"| within {rows[0]['slo']:g} ms, p50, p99 at | " + " | ".join(f"{s} %" for s in shares) + " |", "|---|" + "---:|" * len(shares)]
    for name in names:
        cells = [goodput([r for r in rows if r["setting"] == name and r["share"] == s]) for s in shares]
        lines.append(f"| {name} | " + " | ".join(f"**{100 * good:.1f} %**, {p50:.1f}, {p99:.0f}" if p99 is not None else f"{100 * good:.1f} %"
                                                        for good, p50, p99 in cells) + " |")
    against = [against_best([r for r in rows if r["share"] == share]) for share in shares]
    lines.append("| `auto` / best of the others | " + " | ".join(f"{a:.2f}" for a in against) + " |")
    return lines


def against_best(rows):
    """What auto answers within the SLO by what the best other setting does. That is chosen by one half of the rounds and judged
    by the other, for the best of many noisy figures is better than what any setting has."""
    rounds = sorted({row["round"] for row in rows})
    ratios = []
    for chosen_by in (0, 1):
        half = [{name: goodput([r for r in rows if r["setting"] == name and (len(rounds) == 1 or rounds.index(r["round"]) % 2 == part)])[0]
                 for name in {r["setting"] for r in rows}} for part in (chosen_by, 1 - chosen_by)]
        best = max((name for name in half[0] if name != AUTO), key=half[0].get)
        if half[1][best] > 0:  # otherwise none of them answered anything in time
            ratios.append(half[1][AUTO] / half[1][best])
    return statistics.geometric_mean(ratios)


def numbers(text):
    return [int(word) for word in text.split(",")]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["throughput", "slo", "table"])
    parser.add_argument("model", nargs="?", help="a name of bench/models.json")
    parser.add_argument("--results", type=pathlib.Path, required=True, help="JSON lines")
    parser.add_argument("--length", type=int, help="second extent of all inputs, instead of that in bench/models.json")
    parser.add_argument("--samples", type=pathlib.Path, default=ROOT / "build/models")
    parser.add_argument("--concurrency", type=int, default=16)
    parser.add_argument("--max-batch", type=int, default=8)
    parser.add_argument("--batches", type=numbers, default=[1, 8], help="of the engines alone")
    parser.add_argument("--slo-ms", type=float, default=20)
    parser.add_argument("--loads", type=numbers, default=[10, 30, 50, 70, 90], help="percent of the capacity")
    parser.add_argument("--seconds", type=float, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", help="settings whose name contains this, besides auto and no batching")
    parser.add_argument("--quiet", type=float, default=0.2, help="CPUs that others may use in a measurement that counts")
    args = parser.parse_args()
    if args.what == "table":
        every = [json.loads(line) for line in args.results.read_text().splitlines()]
        order = list(settings(args.max_batch, 0))
        every.sort(key=lambda row: order.index(row["setting"]) if row["setting"] in order else len(order))
        rows = [row for row in every if row["others"] <= args.quiet]
        print(f"{len(rows)} measurements; {len(every) - len(rows)} were left out, for other processes used more than {args.quiet} CPUs.\n")
        print("\n".join(slo_table(rows) if "capacity" in rows[0] else throughput_table(rows)))
        return 0
    entry = next((e for e in json.loads((ROOT / "bench/models.json").read_text()) if e["name"] == args.model), None)
    if entry is None:
        parser.error(f"no model {args.model} in bench/models.json")
    if args.length:
        for spec in entry["inputs"].values():
            spec["shape"][1] = args.length
    grid = settings(args.max_batch, args.slo_ms if args.what == "slo" else 0)
    if args.only is not None:
        grid = {n: c for n, c in grid.items() if n in (AUTO, NONE) or args.only in n}

    def write(row, began):
        with args.results.open("a") as file:
            file.write(json.dumps(row | {"model": args.model, "round": began}) + "\n")

    path = compare.model_path(entry, args.samples.resolve())
    (throughput if args.what == "throughput" else slo)(args, path, entry["inputs"], grid, write)
    return 0


if __name__ == "__main__":
    sys.exit(main())
