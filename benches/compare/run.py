#!/usr/bin/env python3
"""smidgen and llama.cpp side by side, on random weights of the same shapes.

One command builds both, writes the models, runs them in turn and prints tokens a second, their
ratios, and how near we come to what this machine can do, measured between the runs.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from datetime import datetime, timezone
from pathlib import Path

# No __pycache__ in the checkout.
sys.dont_write_bytecode = True
import build  # noqa: E402

# llama.cpp's 8-bit cache wants heads of whole 32-number blocks: 260k's have 8, 15m's 48.
NO_Q8_CACHE = ("260k", "15m")
SHAPES, QUANTS, THREADS = ["260k", "15m", "110m", "gpt2"], ["q8", "q4"], [1, 2]
EXAMPLES = """
examples:
  run.py                                    everything: about 6 minutes, after 10 of building the first time
  run.py --shape 15m --quant q8             one model
  run.py --shape 15m,110m --threads 1 --repeat 9
  run.py --peer-kv q8_0                     llama.cpp with an 8-bit cache too, as ours is
  run.py --build-only; run.py --no-build    build now, measure when the machine is quiet
  run.py --show                             the table of all that was measured so far
"""


def options():
    def list_of(allowed):
        def parse(text):
            values = [type(allowed[0])(part) for part in text.split(",")]
            wrong = [value for value in values if value not in allowed] if allowed is not THREADS else []
            if wrong:
                raise argparse.ArgumentTypeError(f"{wrong[0]} is not one of {', '.join(map(str, allowed))}")
            return values

        return parse

    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "smidgen-bench"
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--shape", type=list_of(SHAPES), default=SHAPES, metavar="NAME,…", help=f"of {', '.join(SHAPES)}; default all")
    add("--quant", type=list_of(QUANTS), default=QUANTS, metavar="TYPE,…", help="q8 (theirs Q8_0), q4 (theirs Q4_0, the embedding too); default both")
    add("--threads", type=list_of(THREADS), default=THREADS, metavar="N,…", help="default 1,2")
    add("--repeat", type=int, default=5, metavar="N", help="turns of each side; the median counts; default 5")
    add("--prompt", type=int, default=512, metavar="N", help="tokens of prefill; default 512")
    add("--tokens", type=int, default=128, metavar="N", help="tokens of decode; default 128")
    add("--peer-kv", default="f16", choices=["f16", "q8_0"], help="llama.cpp's cache; ours is 8-bit; default f16, as its own")
    add("--level", metavar="NAME", help="our instructions (scalar, wide, avx2, …); default the best")
    add("--cache", type=Path, default=cache, metavar="DIR", help=f"for llama.cpp, models, results; default {cache}")
    add("--results", type=Path, metavar="FILE", help="JSON that rows are added to; default results.json in the cache")
    add("--llama-bench", type=Path, metavar="FILE", help="one of your own instead of building it")
    add("--build-only", action="store_true", help="build, write the models, measure nothing")
    add("--no-build", action="store_true", help="measure with what was built and written before")
    add("--show", action="store_true", help="print the table of the results file, measure nothing")
    return parser.parse_args()


def output(command):
    """What a program prints, as JSON."""
    done = subprocess.run(list(map(str, command)), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    if done.returncode:
        sys.exit(f"{' '.join(map(str, command))}\nfailed with exit code {done.returncode}:\n{done.stderr}")
    return json.loads(done.stdout)


class Sides:
    """The two programs, and one model of a shape and type for each."""

    def __init__(self, args):
        self.args, cache = args, args.cache
        cache.mkdir(parents=True, exist_ok=True)
        (cache / "models").mkdir(exist_ok=True)
        if args.no_build:
            built = json.loads((cache / "smidgen.json").read_text())
            self.llama_bench = args.llama_bench or cache / "llama.cpp-build" / "bin" / "llama-bench"
        else:
            built = build.build_smidgen(cache)
            self.llama_bench = args.llama_bench or build.build_llama_bench(cache)
        self.smidgen, self.bench = built["smidgen"], [built["inference"], "--bench"]

    def choose(self, shape, quant):
        """Writes both models, each with room for the prompt."""
        models, context = self.args.cache / "models", max(1024, self.args.prompt, self.args.tokens)
        self.ours, self.theirs = models / f"{shape}-{quant}.smidgen", models / f"{shape}-{quant}-{context}.gguf"
        self.costs_file = self.ours.with_suffix(".json")
        if self.args.no_build:
            self.costs = json.loads(self.costs_file.read_text())
            return
        write = [*self.bench, "--write", self.ours, "--shape", shape, "--quant", quant, "--context", context]
        self.costs = output(write)
        self.costs_file.write_text(json.dumps(self.costs))
        if not self.theirs.exists():
            unfinished = self.theirs.with_suffix(".part")
            script = Path(__file__).with_name("random_gguf.py")
            build.call([build.environment(self.args.cache), script, shape, quant, context, unfinished])
            unfinished.rename(self.theirs)

    def our_command(self, threads, repeat):
        sizes = ["--prompt", self.args.prompt, "--tokens", self.args.tokens, "--repeat", repeat]
        level = ["--level", self.args.level] if self.args.level else []
        return [self.smidgen, "bench", self.ours, *sizes, "--threads", threads, "--json", *level]

    def their_command(self, threads, repeat):
        sizes = ["-p", self.args.prompt, "-n", self.args.tokens, "-r", repeat]
        kv = ["-ctk", self.args.peer_kv, "-ctv", self.args.peer_kv]
        return [self.llama_bench, "-m", self.theirs, *sizes, "-t", threads, *kv, "-o", "json"]

    def run_ours(self, threads, repeat):
        """(prefill, decode) in tokens a second."""
        report = output(self.our_command(threads, repeat))
        self.level = report["level"]
        rates = {test["test"]: test["median"] for test in report["tests"]}
        return rates["prompt"], rates["tokens"]

    def run_theirs(self, threads, repeat):
        """(prefill, decode) in tokens a second."""
        tests = output(self.their_command(threads, repeat))
        self.build = f"{tests[0]['build_commit']}"
        rates = [statistics.median(test["samples_ts"]) for test in tests]
        return rates[0], rates[1]

    def ceilings(self, threads):
        return output([*self.bench, "--ceilings", self.costs["file_bytes"], "--threads", threads])


def peak_memory(command):
    """The most resident memory that a process has had, in bytes: Linux tells while it runs."""
    process = subprocess.Popen(list(map(str, command)), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    status, peak = Path(f"/proc/{process.pid}/status"), 0
    while process.poll() is None:
        lines = status.read_text().splitlines() if status.exists() else []
        peak = max([peak, *(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:"))])
        time.sleep(0.002)
    return peak or None


def measure(sides, shape, quant, threads, args):
    """One row of the table: both sides in turn, the first of a turn alternating too."""
    # Small models take milliseconds a run: more of those in each process.
    inner = 5 if shape in ("260k", "15m") else 1
    ours, theirs, ceilings = [], [], []
    for turn in range(args.repeat):
        pair = [lambda: ours.append(sides.run_ours(threads, inner)), lambda: theirs.append(sides.run_theirs(threads, inner))]
        for run in pair if turn % 2 == 0 else reversed(pair):
            run()
        if turn in (0, args.repeat - 1):
            ceilings.append(sides.ceilings(threads))

    def side(runs):
        prefill, decode = ([run[i] for run in runs] for i in (0, 1))
        return {
            "prefill": statistics.median(prefill),
            "decode": statistics.median(decode),
            "prefill_runs": prefill,
            "decode_runs": decode,
        }

    read = max(each["read_gb_s"] for each in ceilings)
    peaks = [each["int8_gmac_s"] for each in ceilings if each["int8_gmac_s"]]
    row = {
        "shape": shape,
        "quant": quant,
        "threads": threads,
        "peer_kv": args.peer_kv,
        "level": sides.level,
        "llama_cpp": sides.build,
        "prompt": args.prompt,
        "tokens": args.tokens,
        "repeat": args.repeat,
        "when": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "cpu": cpu_name(),
        "file_bytes": {"ours": sides.costs["file_bytes"], "theirs": sides.theirs.stat().st_size},
        "ours": side(ours),
        "theirs": side(theirs),
        "read_gb_s": read,
        "int8_gmac_s": max(peaks, default=None),
        "peak_memory_bytes": {
            "ours": peak_memory(sides.our_command(threads, 1)),
            "theirs": peak_memory(sides.their_command(threads, 1)),
        },
    }
    row["our_gb_s"] = row["ours"]["decode"] * sides.costs["bytes_per_token"] / 1e9
    row["our_gmac_s"] = row["ours"]["prefill"] * sides.costs["macs_per_prompt_token"] / 1e9
    return row


def cpu_name():
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    return next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.processor())


def key(row):
    fields = ("shape", "quant", "threads", "peer_kv", "level", "prompt", "tokens")
    return tuple(row[field] for field in fields)


def order(row):
    return SHAPES.index(row["shape"]), QUANTS.index(row["quant"]), row["peer_kv"], row["level"], row["threads"]


def table(rows):
    """The rows as Markdown."""
    titles = ["model", "type", "threads", "MB ours/theirs", "decode ours", "theirs", "ratio", "of read GB/s"]
    titles += ["prefill ours", "theirs", "ratio", "of int8 GMAC/s", "MiB ours/theirs"]
    cells = []
    for row in sorted(rows, key=order):
        ours, theirs, peak = row["ours"], row["theirs"], row["int8_gmac_s"]
        files, memory = row["file_bytes"], row["peak_memory_bytes"]
        mib = ["-" if memory[side] is None else f"{memory[side] / 2**20:.0f}" for side in ("ours", "theirs")]
        cells.append([
            row["shape"],
            row["quant"],
            str(row["threads"]),
            f"{files['ours'] / 1e6:.1f}/{files['theirs'] / 1e6:.1f}",
            f"{ours['decode']:.0f}",
            f"{theirs['decode']:.0f}",
            f"{ours['decode'] / theirs['decode']:.2f}",
            f"{row['our_gb_s'] / row['read_gb_s']:.0%} of {row['read_gb_s']:.0f}",
            f"{ours['prefill']:.0f}",
            f"{theirs['prefill']:.0f}",
            f"{ours['prefill'] / theirs['prefill']:.2f}",
            f"{row['our_gmac_s'] / peak:.0%} of {peak:.0f}" if peak else "-",
            "/".join(mib),
        ])
    widths = [max(map(len, column)) for column in zip(titles, *cells)]
    lines = [titles, ["-" * (width - 1) + ":" for width in widths], *cells]
    lines = ["| " + " | ".join(cell.rjust(width) for cell, width in zip(line, widths)) + " |" for line in lines]
    kinds = sorted({(row["level"], row["peer_kv"], row["llama_cpp"], row["cpu"]) for row in rows})
    for level, kv, commit, cpu in kinds:
        lines.append(f"Ours: level {level}, 8-bit cache. llama.cpp {commit}: {kv} cache. {cpu}.")
    return "\n".join(lines)


def main():
    args = options()
    path = args.results or args.cache / "results.json"
    rows = json.loads(path.read_text()) if path.exists() else []
    if args.show:
        print(table(rows) if rows else f"{path}: nothing measured yet")
        return
    sides, fresh = Sides(args), []
    for shape in args.shape:
        if args.peer_kv == "q8_0" and shape in NO_Q8_CACHE:
            print(f"{shape}: left out, llama.cpp has no 8-bit cache for heads of this size", file=sys.stderr)
            continue
        for quant in args.quant:
            sides.choose(shape, quant)
            for threads in [] if args.build_only else args.threads:
                print(f"{shape} {quant}, {threads} thread(s)…", file=sys.stderr)
                row = measure(sides, shape, quant, threads, args)
                fresh.append(row)
                rows = [other for other in rows if key(other) != key(row)] + [row]
                unfinished = path.with_suffix(".part")
                unfinished.write_text(json.dumps(rows, indent=1) + "\n")
                unfinished.rename(path)
    if fresh:
        print(table(fresh))


if __name__ == "__main__":
    main()
