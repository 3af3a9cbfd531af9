#!/usr/bin/env python3
"""Training steps of smidgen and of PyTorch, taking turns on this machine.

One command builds ours, makes (the first time) a virtual environment with PyTorch in a cache folder
outside the repository, and prints for every configuration medians of the turns, the ratio to
PyTorch's best variant, peak memory, and what part of the machine's peak we reach: multiply-adds of
the same precision in registers, measured between our own steps.

Configurations (examples/step_speed.rs of the trainer): a, b: GPT-2 on characters (4 layers x 4 heads
x 128, context 64, batch 12; 6 x 6 x 384, 256, 16); c: a Llama of 15 million parameters, vocabulary
32,000 (256, 8); d: GPT-2 124M (256, 4). A step is forward, backward, clipping and AdamW.
"""
import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import venv
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
VARIANTS = ["f32", "f32-compile", "bf16", "bf16-compile"]
PRELOADED = "+preload"
TORCH = "torch==2.15.0"
EXAMPLES = """
examples:
  train_vs_torch.py                              everything: about 25 minutes
  train_vs_torch.py --configs c --rounds 3 --variants bf16-compile
  train_vs_torch.py --build-only; train_vs_torch.py --no-build     build now, measure when it is quiet
  train_vs_torch.py --python PYTHON              an interpreter that has torch already
  train_vs_torch.py --preload libtcmalloc_minimal.so.4    PyTorch also with another allocator
"""


def run(command, environment=None):
    """What a command printed, and the most memory it had, in MiB."""
    command = [str(part) for part in command]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
    output = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        sys.exit(f"error: {' '.join(command)} ended with {process.returncode}")
    return output, usage.ru_maxrss / 1024


def python_with_torch(cache):
    """The virtual environment's interpreter; made if it is not there."""
    folder = cache / "torch"
    python = folder / "bin" / "python"
    if not (folder / "ready").exists():
        print(f"making {folder} with {TORCH} (once)", file=sys.stderr)
        venv.create(folder, with_pip=True)
        # The build for CPUs is a tenth of the size, where pip can be told; any will do.
        subprocess.run([python, "-m", "pip", "install", "--quiet", TORCH, "numpy", "setuptools"], check=True)
        (folder / "ready").touch()
    return python


def ours(options, config):
    output, memory = run([options.step_speed, config, options.threads, options.seconds])
    match = re.search(r"median of \d+ steps: (\d+) tokens/s.* ([\d.]+) GFLOP/s, \d+ % of (\d+)", output)
    if not match:
        sys.exit(f"error: step_speed printed no median:\n{output}")
    return float(match[1]), memory, float(match[2]), float(match[3])


def torch(options, config, variant):
    kind, *preload = variant.split(PRELOADED)
    dtype, *compiled = kind.split("-")
    command = [options.python, HERE / "torch_step.py", config, "--dtype", dtype]
    command += ["--threads", options.threads, "--seconds", options.seconds]
    environment = dict(os.environ)
    if preload:
        environment["LD_PRELOAD"] = options.preload
    output, memory = run(command + ["--compile"] * len(compiled), environment)
    return json.loads(output.splitlines()[-1])["tokens_per_second"], memory


def measure(options, config):
    """Takes turns, each time another one first, and prints the configuration's table."""
    preloaded = [variant + PRELOADED for variant in options.variants] if options.preload else []
    names = ["smidgen"] + options.variants + preloaded
    results = {name: [] for name in names}
    for turn in range(options.rounds):
        for name in names[turn % len(names) :] + names[: turn % len(names)]:
            one = ours(options, config) if name == "smidgen" else torch(options, config, name)
            results[name].append(one)
    speeds = {name: statistics.median(one[0] for one in runs) for name, runs in results.items()}
    best = max(options.variants, key=speeds.get)
    memory = {name: max(one[1] for one in runs) for name, runs in results.items()}
    gflops, peak = (statistics.median(one[i] for one in results["smidgen"]) for i in (2, 3))
    print(
        f"{config}: {speeds['smidgen'] / speeds[best]:.2f} x PyTorch's best ({best}), "
        f"{memory['smidgen'] / memory[best]:.2f} x its memory, "
        f"{gflops:.0f} of {peak:.0f} GFLOP/s ({gflops / peak:.0%})"
    )
    if preloaded:
        best = max(preloaded, key=speeds.get)
        print(f"  {speeds['smidgen'] / speeds[best]:.2f} x its best with {options.preload} ({best})")
    for name in names:
        runs = ", ".join(f"{one[0]:.0f}" for one in results[name])
        print(f"  {name:<20} {speeds[name]:>9.0f} tokens/s  {memory[name]:>6.0f} MiB  ({runs})", flush=True)


def main():
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "smidgen-bench"
    target = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--configs", nargs="+", choices="abcd", default=list("abcd"))
    add("--variants", nargs="+", choices=VARIANTS, default=VARIANTS)
    add("--rounds", type=int, default=5, help="turns; the median counts; default 5")
    add("--seconds", default="3", help="of each measurement; default 3")
    add("--threads", default="2", help="default 2")
    add("--python", help="an interpreter that has torch; else one is made in the cache folder")
    add("--cache", type=Path, default=cache, help=f"default {cache}")
    add("--preload", help="a library that PyTorch starts with in a second set of variants, such as tcmalloc")
    add("--build-only", action="store_true", help="build, and measure nothing")
    add("--no-build", action="store_true", help="everything is built already")
    options = parser.parse_args()
    options.step_speed = target / "release" / "examples" / "step_speed"
    if not options.no_build:
        command = ["cargo", "build", "--release", "-p", "smidgen-trainer", "--example", "step_speed"]
        subprocess.run(command, cwd=ROOT, check=True)
    options.python = options.python or python_with_torch(options.cache)
    if not options.build_only:
        for config in options.configs:
            measure(options, config)


if __name__ == "__main__":
    main()
