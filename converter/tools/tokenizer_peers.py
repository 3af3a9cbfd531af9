#!/usr/bin/env python3
"""How fast tiktoken and Hugging Face's tokenizers encode: the peers of `tokenizer_speed`.

    pip install tiktoken tokenizers
    RAYON_NUM_THREADS=1 TOKENIZERS_PARALLELISM=false tokenizer_peers.py GPT2_TOKENIZER_JSON TEXT [MEGABYTES]

One thread, the median of five, each line of the text by itself. tiktoken's encoding is made of the
vocabulary in the tokenizer.json.
"""

import json
import statistics
import sys
import time

import tiktoken
from tokenizers import Tokenizer

PATTERN = r"'(?:[sdmt]|ll|ve|re)| ?\p{L}++| ?\p{N}++| ?[^\s\p{L}\p{N}]++|\s++$|\s+(?!\S)|\s"


def alphabet():
    plain = list(range(33, 127)) + list(range(161, 173)) + list(range(174, 256))
    others = [byte for byte in range(256) if byte not in plain]
    return {chr(byte): byte for byte in plain} | {chr(256 + at): byte for at, byte in enumerate(others)}


def report(name, size, run):
    seconds = []
    for _ in range(5):
        start = time.perf_counter()
        count = run()
        seconds.append(time.perf_counter() - start)
    print(f"{name:20} {size / statistics.median(seconds) / 1e6:8.1f} MB/s  {count} tokens")


def main():
    path, text_path = sys.argv[1:3]
    megabytes = int(sys.argv[3]) if len(sys.argv) > 3 else 10
    data = open(text_path, "rb").read()[: megabytes << 20].decode(errors="ignore")
    lines = data.splitlines(keepends=True) if "\r" not in data else data.split("\n")
    size = len(data.encode())
    bytes_of = alphabet()
    vocab = json.load(open(path, encoding="utf-8"))["model"]["vocab"]
    ranks = {bytes(bytes_of[c] for c in token): rank for token, rank in vocab.items() if token != "<|endoftext|>"}
    encoding = tiktoken.Encoding("gpt2", pat_str=PATTERN, mergeable_ranks=ranks, special_tokens={"<|endoftext|>": 50256})
    report("tiktoken", size, lambda: sum(len(encoding.encode_ordinary(line)) for line in lines))
    whole = lambda: len(encoding.encode_ordinary(data))
    report("tiktoken, one call", size, whole)
    tokenizer = Tokenizer.from_file(path)
    report("HF tokenizers", size, lambda: sum(len(e.ids) for e in tokenizer.encode_batch_fast(lines, add_special_tokens=False)))


if __name__ == "__main__":
    main()
