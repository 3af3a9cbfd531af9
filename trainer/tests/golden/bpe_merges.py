#!/usr/bin/env python3
"""Writes bpe_merges.txt: what Hugging Face's BpeTrainer learns (pip install tokenizers; used: 0.23.3).

    python3 trainer/tests/golden/bpe_merges.py TEXT_FOLDER

One line a case: name, file or "-", vocabulary size, pattern, number of merges, FNV-1a 64 of the
merges ("left right\\n" each), the first ten merges. "-" is the text of small_text() below, which the
test builds too; code.txt, Rust and Python as they once stood in this repository, is beside this script; other
files are skipped by the test where they are absent.
"""

import json
import pathlib
import sys

from tokenizers import Regex, Tokenizer, models, pre_tokenizers, trainers

GPT2 = pre_tokenizers.ByteLevel(add_prefix_space=False)
DIGITS = pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), GPT2])
LLAMA3_REGEX = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
CL100K_REGEX = r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}++|\p{N}{1,3}| ?[^\s\p{L}\p{N}]++[\r\n]*+|\s++$|\s*[\r\n]|\s+(?!\S)|\s"


def split(regex):
    return pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(regex), "isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
    ])


PATTERNS = {
    "gpt2": GPT2,
    "digits": DIGITS,
    "llama3": split(LLAMA3_REGEX),
    "qwen2": split(LLAMA3_REGEX.replace(r"\p{N}{1,3}", r"\p{N}")),
    "cl100k": split(CL100K_REGEX),
}


def small_text():
    """Words over a, b, c from a linear congruential generator: many ties, overlaps, tokens made twice."""
    state, text = 1, []
    for _ in range(4000):
        state = (state * 1103515245 + 12345) % 2**31
        text.append("abc "[state >> 16 & 3] if state >> 20 & 7 else "aaa")
    return "".join(text)


def fnv(text):
    digest = 0xCBF29CE484222325
    for byte in text.encode():
        digest = (digest ^ byte) * 0x100000001B3 % 2**64
    return digest


def learn(documents, size, pattern):
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = PATTERNS[pattern]
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        special_tokens=["<|endoftext|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(documents, trainer)
    return [" ".join(merge) for merge in json.loads(tokenizer.to_str())["model"]["merges"]]


def main():
    folder = pathlib.Path(sys.argv[1])
    lines = []
    for name, file, size, pattern in [
        ("small", "-", 400, "gpt2"),
        ("small", "-", 3000, "gpt2"),
        ("shakespeare", "tinyshakespeare.txt", 512, "gpt2"),
        ("shakespeare", "tinyshakespeare.txt", 4096, "gpt2"),
        ("shakespeare", "tinyshakespeare.txt", 2048, "llama3"),
        ("korean", "ko_constitution.txt", 2000, "gpt2"),
        ("korean", "ko_constitution.txt", 1000, "digits"),
        ("korean", "ko_constitution.txt", 1500, "llama3"),
        ("korean", "ko_constitution.txt", 1500, "qwen2"),
        ("code", "code.txt", 1500, "gpt2"),
        ("code", "code.txt", 800, "digits"),
        ("code", "code.txt", 1500, "llama3"),
        ("code", "code.txt", 1500, "qwen2"),
        ("code", "code.txt", 1500, "cl100k"),
    ]:
        here = pathlib.Path(__file__).parent / file
        text = small_text() if file == "-" else (here if here.exists() else folder / file).read_bytes().decode()
        merges = learn(text.split("\n\n"), size, pattern)
        digest = fnv("".join(merge + "\n" for merge in merges))
        lines.append("\t".join([name, file, str(size), pattern, str(len(merges)), f"{digest:016x}", ", ".join(merges[:10])]))
    (pathlib.Path(__file__).parent / "bpe_merges.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
