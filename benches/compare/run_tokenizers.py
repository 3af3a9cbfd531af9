#!/usr/bin/env python3
"""smidgen's tokenizers beside tiktoken and Hugging Face's: encoding, training, and texts that are hard on purpose.

One command builds our side and installs theirs, runs them in turn and prints Markdown tables. Encoding: GPT-2's
vocabulary, one thread, line by line. Training: whole programs on 50 MB of text, GPT-2's pattern, two threads; the
vocabularies must be equal. The curve: nanoseconds a byte of ours, texts of 1 kB to 1 MB.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

# No __pycache__ in the checkout.
sys.dont_write_bytecode = True
import build  # noqa: E402

PEERS = ["tiktoken==0.14.0", "tokenizers==0.23.3"]
OURS = {"remembering words": "smidgen, words remembered", "without an allocator": "smidgen, no allocator"}
CORPUS = 50_000_000
# What the curve is drawn for, below the data's folder.
CURVE = ["tok/gpt2/tokenizer.json", "tok/smollm", "tok/qwen2", "tok/llama_tokenizer.json", "tok/bert-base-uncased_vocab.txt"]
EXAMPLES = """
examples:
  run_tokenizers.py                             all tables: about 5 minutes, after building
  run_tokenizers.py --only encode --repeat 9
  run_tokenizers.py --build-only; run_tokenizers.py --no-build    build now, measure when the machine is quiet
"""


def options():
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "smidgen-bench"
    data = build.REPOSITORY.parent / "shared" / "data"
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--only", default="encode,train,curve", metavar="NAME,…", help="of encode, train, curve; default all")
    add("--data", type=Path, default=data, metavar="DIR", help=f"tok/ and text/ as the tests have them; default {data}")
    add("--text", type=Path, metavar="FILE", help="English text; default text/prose_standard_ebooks.txt in the data")
    add("--megabytes", type=int, default=6, metavar="N", help="of it that are encoded, in MiB; default 6")
    add("--vocab", default="4096,32000", metavar="N,…", help="sizes to train; default 4096,32000")
    add("--repeat", type=int, default=5, metavar="N", help="turns of each side; the median counts; default 5")
    add("--cache", type=Path, default=cache, metavar="DIR", help=f"for the peers and the corpus; default {cache}")
    add("--build-only", action="store_true", help="build and install, measure nothing")
    add("--no-build", action="store_true", help="measure with what was built before")
    return parser.parse_args()


def build_ours(cache):
    """The program and the two examples."""
    command = ["cargo", "build", "--release", "--message-format=json-render-diagnostics"]
    built = {}
    for what in [["--bin", "smidgen"], ["-p", "smidgen-converter", "--example", "tokenizer_speed", "--example", "tokenizer_curve"]]:
        messages = build.call([*command, *what], cwd=build.REPOSITORY, stdout=subprocess.PIPE)
        for message in map(json.loads, messages.stdout.splitlines()):
            if message.get("executable"):
                built[message["target"]["name"]] = message["executable"]
    (cache / "tokenizers.json").write_text(json.dumps(built))
    return built


def lines_of(command):
    """What a program prints, a JSON object a line."""
    # One thread: theirs would take all cores.
    one = {**os.environ, "RAYON_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
    done = build.call(command, stdout=subprocess.PIPE, env=one)
    return [json.loads(line) for line in done.stdout.splitlines()]


def in_turn(sides, turns):
    """Calls both sides by turns, each beginning every other one."""
    for turn in range(turns):
        for side in sides if turn % 2 == 0 else sides[::-1]:
            side()


def encode(args, built, python):
    rates, tokens = {}, {}
    path, text = args.data / "tok/gpt2/tokenizer.json", args.text

    def side(command):
        def run():
            for line in lines_of(command):
                rates.setdefault(line["name"], []).append(line["mb_s"])
                tokens[line["name"]] = line["tokens"]
        return run

    work = [path, text, args.megabytes, 3]
    peers = Path(__file__).with_name("tokenizer_peers.py")
    in_turn([side([built["tokenizer_speed"], *work]), side([python, peers, "encode", *work])], args.repeat)
    if len(set(tokens.values())) != 1:
        sys.exit(f"not the same tokens: {tokens}")
    medians = {name: statistics.median(runs) for name, runs in rates.items()}
    fastest = max(rate for name, rate in medians.items() if name not in OURS)
    print(f"\n{args.megabytes} MiB of {text.name}, {next(iter(tokens.values()))} tokens, median of {args.repeat} turns (least, most)\n")
    print("| | MB/s | of the faster peer |\n|---|---|---|")
    for name in sorted(medians, key=medians.get, reverse=True):
        least, most = min(rates[name]), max(rates[name])
        print(f"| {OURS.get(name, name)} | {medians[name]:.1f} ({least:.1f} to {most:.1f}) | {medians[name] / fastest:.2f}x |")


def corpus(args):
    """50 MB of the text, again from its beginning where it ends."""
    path = args.cache / "corpus.txt"
    if not path.exists():
        whole = args.text.read_bytes()
        path.write_bytes((whole * (CORPUS // len(whole) + 1))[:CORPUS].decode(errors="ignore").encode())
    return path


def timed(command):
    """Seconds and peak memory in MiB of a program with two threads."""
    begin = time.perf_counter()
    environment = {**os.environ, "RAYON_NUM_THREADS": "2", "TOKENIZERS_PARALLELISM": "true"}
    process = subprocess.Popen(list(map(str, command)), stderr=subprocess.PIPE, env=environment)
    words = process.stderr.read()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        sys.exit(words.decode())
    return time.perf_counter() - begin, usage.ru_maxrss / 1024


def same_model(ours, theirs):
    def model(path):
        value = json.loads(path.read_text())["model"]
        pair = lambda merge: tuple(merge.split(" ")) if isinstance(merge, str) else tuple(merge)
        return [pair(merge) for merge in value["merges"]], value["vocab"]

    return model(ours) == model(theirs)


def train(args, built, python):
    text = corpus(args)
    print(f"\n{text.stat().st_size / 1e6:.0f} MB of {args.text.name}, two threads, median of {args.repeat} turns (least, most)\n")
    print("| tokens | smidgen | Hugging Face | times faster | peak memory |\n|---|---|---|---|---|")
    for size in map(int, args.vocab.split(",")):
        ours, theirs = args.cache / "ours.json", args.cache / "theirs.json"
        commands = [
            [built["smidgen"], "tokenizer", "train", text, "--vocab", size, "--threads", 2, "-o", ours],
            [python, Path(__file__).with_name("tokenizer_peers.py"), "train", text, size, theirs],
        ]
        runs = [[], []]
        in_turn([lambda at=at: runs[at].append(timed(commands[at])) for at in (0, 1)], args.repeat)
        if not same_model(ours, theirs):
            sys.exit(f"{ours} and {theirs} are not the same vocabulary")
        seconds = [statistics.median(second for second, _ in side) for side in runs]
        cells = [f"{middle:.2f} s ({min(side)[0]:.2f} to {max(side)[0]:.2f})" for middle, side in zip(seconds, runs)]
        memory = [max(mebibytes for _, mebibytes in side) for side in runs]
        print(f"| {size:,} | {cells[0]} | {cells[1]} | {seconds[1] / seconds[0]:.1f} | {memory[0]:.0f} against {memory[1]:.0f} MiB |", flush=True)


def curve(args, built, _):
    print("\nNanoseconds a byte, no allocator, the best of three\n")
    build.call([built["tokenizer_curve"], *(args.data / name for name in CURVE)], stdout=sys.stdout)


def main():
    args = options()
    args.text = args.text or args.data / "text/prose_standard_ebooks.txt"
    args.cache.mkdir(parents=True, exist_ok=True)
    built = json.loads((args.cache / "tokenizers.json").read_text()) if args.no_build else build_ours(args.cache)
    python = build.environment(args.cache, "venv-tokenizers", PEERS)
    if args.build_only:
        corpus(args)
        return
    for name in args.only.split(","):
        {"encode": encode, "train": train, "curve": curve}[name](args, built, python)


if __name__ == "__main__":
    main()
