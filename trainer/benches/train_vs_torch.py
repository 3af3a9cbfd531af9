#!/usr/bin/env python3
"""Training steps of smidgen and of PyTorch, alternating, on this machine.

    cargo build --release -p smidgen-trainer --example step_speed
    python3 trainer/benches/train_vs_torch.py --python VENV/bin/python [--configs a b c d]
        [--rounds 5] [--seconds 3] [--threads 2] [--variants f32 f32-compile bf16 bf16-compile]
        [--preload libtcmalloc.so]

In every round our step_speed runs once and each variant of PyTorch once, so that all see the
same noise. Printed: medians of the rounds, the ratio to PyTorch's best variant, peak memory.
"""
import argparse
import json
import os
import pathlib
import re
import statistics
import subprocess
import sys

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
VARIANTS = ["f32", "f32-compile", "bf16", "bf16-compile"]


def run(command, environment=None):
    """What a command printed, and the most memory it had, in MiB."""
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
    output = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        sys.exit(f"error: {' '.join(map(str, command))} ended with {process.returncode}")
    return output, usage.ru_maxrss / 1024


def ours(options, config):
    output, memory = run([options.step_speed, config, options.threads, options.seconds])
    match = re.search(r"median of \d+ steps: (\d+) tokens/s", output)
    if not match:
        sys.exit(f"error: step_speed printed no median:\n{output}")
    return float(match[1]), memory


def torch(options, config, variant):
    dtype, *compiled = variant.split("-")
    command = [options.python, HERE.parent / "tools" / "torch_step.py", config, "--dtype", dtype]
    command += ["--threads", options.threads, "--seconds", options.seconds]
    environment = dict(os.environ)
    if options.preload:
        environment["LD_PRELOAD"] = options.preload
    command = [str(part) for part in command + ["--compile"] * len(compiled)]
    output, memory = run(command, environment)
    return json.loads(output.splitlines()[-1])["tokens_per_second"], memory


def main():
    target = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--python", required=True, help="an interpreter that has torch")
    parser.add_argument("--configs", nargs="+", choices="abcd", default=list("abcd"))
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, default=VARIANTS)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", default="3")
    parser.add_argument("--threads", default="2")
    parser.add_argument("--preload", help="a library for PyTorch to start with, such as tcmalloc")
    parser.add_argument("--step-speed", default=str(target / "release" / "examples" / "step_speed"))
    options = parser.parse_args()
    for config in options.configs:
        results = {}
        for _ in range(options.rounds):
            results.setdefault("smidgen", []).append(ours(options, config))
            for variant in options.variants:
                results.setdefault(f"torch {variant}", []).append(torch(options, config, variant))
        speeds = {name: statistics.median(speed for speed, _ in runs) for name, runs in results.items()}
        best = max((name for name in speeds if name != "smidgen"), key=speeds.get)
        print(f"{config}: {speeds['smidgen'] / speeds[best]:.2f} x PyTorch's best ({best})")
        for name, speed in speeds.items():
            runs = ", ".join(f"{speed:.0f}" for speed, _ in results[name])
            memory = max(memory for _, memory in results[name])
            print(f"  {name:<18} {speed:>9.0f} tokens/s  {memory:>6.0f} MiB  ({runs})", flush=True)


if __name__ == "__main__":
    main()
