#!/usr/bin/env python3
"""Random corpora through `smidgen tokenizer train` and Hugging Face's BpeTrainer: every difference.

    pip install tokenizers==0.23.3
    converter/tools/tokenizer_train_fuzz.py SMIDGEN TEXT… [--rounds 40] [--seed 1] [--threads 2]

A corpus is random lines of one of the texts (prose, Korean, code …), some shuffled by the word so that many pairs
are as frequent as others, or a few letters only, where nearly all are. Vocabulary and merges must be equal.
"""

import argparse
import json
import pathlib
import random
import subprocess
import sys
import tempfile

from tokenizers import Regex, Tokenizer, models, pre_tokenizers, trainers

CL100K = r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}++|\p{N}{1,3}| ?[^\s\p{L}\p{N}]++[\r\n]*+|\s++$|\s*[\r\n]|\s+(?!\S)|\s"
LLAMA3 = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
BYTES = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
GPT2 = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)


def split(regex):
    return pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(regex), "isolated"), BYTES])


PATTERNS = {
    "gpt2": GPT2,
    "smollm": pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), GPT2]),
    "llama3": split(LLAMA3),
    "cl100k": split(CL100K),
    "qwen2": split(LLAMA3.replace(r"\p{N}{1,3}", r"\p{N}")),
}


def corpus(pick, texts):
    kind = pick.randrange(4)
    if kind == 0:
        letters = pick.choice(["ab", "abc ", "가나다 ", "01 x", "aé한😀 "])
        return "\n".join("".join(pick.choice(letters) for _ in range(pick.randrange(1, 60))) for _ in range(pick.randrange(1, 300)))
    lines = pick.choice(texts)
    start = pick.randrange(len(lines))
    chosen = lines[start : start + pick.choice([50, 500, 5000])]
    if kind == 1:
        words = " ".join(chosen).split(" ")
        pick.shuffle(words)
        chosen = [" ".join(words[at : at + 12]) for at in range(0, len(words), 12)]
    return "\n".join(chosen) + pick.choice(["", "\n"])


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("smidgen")
    parser.add_argument("texts", nargs="+", type=pathlib.Path)
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    pick = random.Random(arguments.seed)
    texts = [path.read_text(errors="replace").split("\n") for path in arguments.texts]
    wrong = 0
    merged = 0
    with tempfile.TemporaryDirectory() as temporary:
        file, out = pathlib.Path(temporary) / "corpus.txt", pathlib.Path(temporary) / "tokenizer.json"
        for number in range(arguments.rounds):
            file.write_bytes(corpus(pick, texts).encode())
            pattern, size, least = pick.choice(list(PATTERNS)), pick.choice([300, 400, 1000, 3000, 8000]), pick.choice([1, 2, 2, 5])
            theirs = Tokenizer(models.BPE())
            theirs.pre_tokenizer = PATTERNS[pattern]
            theirs.train([str(file)], trainers.BpeTrainer(
                vocab_size=size, min_frequency=least, special_tokens=["<|endoftext|>"], show_progress=False,
                initial_alphabet=pre_tokenizers.ByteLevel.alphabet()))
            subprocess.run([arguments.smidgen, "tokenizer", "train", str(file), "--vocab", str(size), "--pattern", pattern,
                            "--min-frequency", str(least), "--threads", str(arguments.threads), "-o", str(out)], check=True, stderr=subprocess.DEVNULL)
            pair = lambda merge: tuple(merge.split(" ")) if isinstance(merge, str) else tuple(merge)
            ours, known = (json.loads(text)["model"] for text in (out.read_text(), theirs.to_str()))
            ours, known = (([pair(merge) for merge in model["merges"]], model["vocab"]) for model in (ours, known))
            merged += len(known[0])
            if ours != known:
                wrong += 1
                first = next((at for at, (a, b) in enumerate(zip(ours[0], known[0])) if a != b), min(len(ours[0]), len(known[0])))
                print(f"round {number}: {pattern}, {size} tokens, least {least}, {file.stat().st_size} bytes: merge {first}: "
                      f"smidgen {ours[0][first:first + 2]}, theirs {known[0][first:first + 2]}; {len(ours[0])} and {len(known[0])} merges")
    print(f"{arguments.rounds} corpora, {merged} merges, {wrong} differences")
    sys.exit(wrong > 0)


if __name__ == "__main__":
    main()
