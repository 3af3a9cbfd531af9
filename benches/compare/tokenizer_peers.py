"""The peers of `run_tokenizers.py`, each run in a process of its own: encoding with tiktoken and Hugging Face's
tokenizers, training with the latter. Prints a line of JSON for each thing that was timed.

    tokenizer_peers.py encode GPT2_TOKENIZER_JSON TEXT MEGABYTES RUNS
    tokenizer_peers.py train TEXT VOCABULARY OUT
"""

import json
import statistics
import sys
import time

import tiktoken
from tokenizers import Tokenizer, models, pre_tokenizers, trainers

# What tiktoken itself has for GPT-2.
PATTERN = r"'(?:[sdmt]|ll|ve|re)| ?\p{L}++| ?\p{N}++| ?[^\s\p{L}\p{N}]++|\s++$|\s+(?!\S)|\s"


def alphabet():
    plain = list(range(33, 127)) + list(range(161, 173)) + list(range(174, 256))
    others = [byte for byte in range(256) if byte not in plain]
    return {chr(byte): byte for byte in plain} | {chr(256 + at): byte for at, byte in enumerate(others)}


def report(name, size, runs, run):
    run()
    seconds = []
    for _ in range(runs):
        start = time.perf_counter()
        count = run()
        seconds.append(time.perf_counter() - start)
    print(json.dumps({"name": name, "mb_s": size / statistics.median(seconds) / 1e6, "tokens": count}), flush=True)


def encode(path, text_path, megabytes, runs):
    with open(text_path, "rb") as file:
        data = file.read(int(megabytes) << 20).decode(errors="ignore")
    # str.splitlines cuts in more places.
    lines = [line + "\n" for line in data.split("\n")]
    lines[-1] = lines[-1][:-1]
    size, runs = len(data.encode()), int(runs)
    bytes_of = alphabet()
    with open(path, encoding="utf-8") as file:
        vocab = json.load(file)["model"]["vocab"]
    ranks = {bytes(bytes_of[c] for c in token): rank for token, rank in vocab.items() if token != "<|endoftext|>"}
    encoding = tiktoken.Encoding("gpt2", pat_str=PATTERN, mergeable_ranks=ranks, special_tokens={"<|endoftext|>": 50256})
    report("tiktoken", size, runs, lambda: sum(len(encoding.encode_ordinary(line)) for line in lines))
    report("tiktoken, one call", size, runs, lambda: len(encoding.encode_ordinary(data)))
    tokenizer = Tokenizer.from_file(path)
    encoded = lambda: sum(len(e.ids) for e in tokenizer.encode_batch_fast(lines, add_special_tokens=False))
    report("Hugging Face", size, runs, encoded)


def train(text, vocabulary, out):
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    tokenizer.train([text], trainers.BpeTrainer(
        vocab_size=int(vocabulary), min_frequency=1, special_tokens=["<|endoftext|>"], show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet()))
    tokenizer.save(out)


if __name__ == "__main__":
    {"encode": encode, "train": train}[sys.argv[1]](*sys.argv[2:])
