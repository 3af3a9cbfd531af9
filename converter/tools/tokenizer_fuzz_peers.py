#!/usr/bin/env python3
"""Random hostile texts through `smidgen tokenizer` and the libraries that vocabularies were made with: tiktoken and
SentencePiece themselves. `tokenizer_fuzz.py` compares with Hugging Face's readers of the same vocabularies.

    pip install tokenizers==0.23.3 tiktoken==0.14.0 sentencepiece==0.2.3 protobuf
    converter/tools/tokenizer_fuzz_peers.py SMIDGEN DATA [--texts 10000] [--seed 1]

tiktoken: files of ranks, made of GPT-2's vocabulary and of the first ranks of Qwen 2's (which is cl100k's and more),
each with its encoding's pattern and special tokens. SentencePiece: vocabularies trained here, with and without words
that go on over spaces, scores as they are and so coarse that many, or all, are equal; as llama2.c's `tokenizer.bin`.
"""

import argparse
import base64
import io
import json
import pathlib
import struct
import sys
import tempfile
import unicodedata

import sentencepiece
import tiktoken
from sentencepiece import sentencepiece_model_pb2

sys.dont_write_bytecode = True
from tokenizer_fuzz import LLAMA3, QWEN2, Texts, compare, run  # noqa: E402

# As tiktoken has them.
R50K = r"""'(?:[sdmt]|ll|ve|re)| ?\p{L}++| ?\p{N}++| ?[^\s\p{L}\p{N}]++|\s++$|\s+(?!\S)|\s"""
CL100K = r"""'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}++|\p{N}{1,3}+| ?[^\s\p{L}\p{N}]++[\r\n]*+|\s++$|\s*[\r\n]|\s+(?!\S)|\s"""
CL100K_SPECIAL = {"<|endoftext|>": 100257, "<|fim_prefix|>": 100258, "<|fim_middle|>": 100259, "<|fim_suffix|>": 100260, "<|endofprompt|>": 100276}
LLAMA3_SPECIAL = {"<|begin_of_text|>": 128000, "<|end_of_text|>": 128001, "<|start_header_id|>": 128006, "<|end_header_id|>": 128007,
                  "<|eot_id|>": 128009, "<|reserved_special_token_0|>": 128002, "<|reserved_special_token_250|>": 128255}


def ranks(path):
    """Bytes to rank, of a vocab.json or tokenizer.json."""
    plain = list(range(33, 127)) + list(range(161, 173)) + list(range(174, 256))
    others = [byte for byte in range(256) if byte not in plain]
    bytes_of = {chr(byte): byte for byte in plain} | {chr(256 + at): byte for at, byte in enumerate(others)}
    value = json.loads(path.read_text())
    vocab = value["model"]["vocab"] if isinstance(value.get("model"), dict) else value
    return {bytes(bytes_of[c] for c in token): rank for token, rank in vocab.items() if token != "<|endoftext|>"}


def encode(smidgen, path, lines, *flags):
    command = [smidgen, "tokenizer", "encode", "-t", str(path), "--jsonl", *flags]
    return [line["ids"] for line in run(command, [{"text": text} for text in lines])]


def decode(smidgen, path, lists):
    return [line["text"] for line in run([smidgen, "tokenizer", "decode", "-t", str(path), "--jsonl"], [{"ids": ids} for ids in lists])]


def tiktoken_case(arguments, path, name, mergeable, pattern, special, nfc=False):
    path.write_text("".join(f"{base64.b64encode(token).decode()} {rank}\n" for token, rank in sorted(mergeable.items(), key=lambda pair: pair[1])))
    theirs = tiktoken.Encoding(name, pat_str=pattern, mergeable_ranks=mergeable, special_tokens=special)
    texts = Texts(f"{name}{arguments.seed}", list(special))
    lines = [texts.text() for _ in range(arguments.texts)]
    if nfc:
        lines = [unicodedata.normalize("NFC", line) for line in lines]
    wrong = 0
    for flag, known in [([], [theirs.encode_ordinary(line) for line in lines]), (["--parse-special"], [theirs.encode(line, allowed_special="all") for line in lines])]:
        for cache in [[], ["--no-cache"]]:
            wrong += compare(name, f"encode {flag}{cache}", lines, encode(arguments.smidgen, path, lines, *flag, *cache), known)
    plain = [[at for at in ids if at not in special.values()] for ids in known]
    # And cut anywhere, in the middle of characters.
    plain += [ids[texts.random.randrange(len(ids) + 1):] for ids in plain]
    wrong += compare(name, "decode", plain, decode(arguments.smidgen, path, plain), [theirs.decode(ids) for ids in plain])
    print(f"tiktoken {name}: {len(lines)} texts, {wrong} differences", flush=True)
    return wrong


def sentencepiece_case(arguments, path, model, grain, words):
    if grain:
        for piece in model.pieces:
            if piece.type == piece.NORMAL:
                piece.score = -float(int(-piece.score) // grain)
    theirs = sentencepiece.SentencePieceProcessor(model_proto=model.SerializeToString())
    pieces = [{1: "\n<s>\n", 2: "\n</s>\n"}.get(at, theirs.id_to_piece(at)).replace("▁", " ").encode() for at in range(theirs.get_piece_size())]
    with open(path, "wb") as file:
        file.write(struct.pack("<I", max(map(len, pieces))))
        for at, piece in enumerate(pieces):
            file.write(struct.pack("<fI", theirs.get_score(at), len(piece)) + piece)
    name = f"grain {grain}"
    texts = Texts(f"{name}{arguments.seed}", ["<s>", "</s>", "<unk>"])
    # SentencePiece takes U+0000 for the end of a text.
    lines = [texts.text().replace("\0", "") for _ in range(arguments.texts)]
    lines += [" ".join(texts.random.choice(words) for _ in range(20)) for _ in range(arguments.texts // 4)]
    known = theirs.encode(lines)
    wrong = 0
    for cache in [[], ["--no-cache"]]:
        wrong += compare(name, f"encode {cache}", lines, encode(arguments.smidgen, path, lines, *cache), known)
    wrong += compare(name, "decode", known, decode(arguments.smidgen, path, known), [theirs.decode(ids) for ids in known])
    print(f"SentencePiece {name}: {len(lines)} texts, {wrong} differences", flush=True)
    return wrong


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("smidgen")
    parser.add_argument("data", type=pathlib.Path)
    parser.add_argument("--texts", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    gpt2, qwen2 = ranks(arguments.data / "tok/gpt2/tokenizer.json"), ranks(arguments.data / "tok/qwen2/vocab.json")
    first = lambda count: {token: rank for token, rank in qwen2.items() if rank < count}
    corpus = "".join((arguments.data / "text" / name).read_text() for name in ["niklas6_tinystories.txt", "ko_constitution.txt"])
    wrong = 0
    with tempfile.TemporaryDirectory() as temporary:
        path = pathlib.Path(temporary) / "some.tiktoken"
        wrong += tiktoken_case(arguments, path, "r50k", gpt2, R50K, {"<|endoftext|>": 50256})
        wrong += tiktoken_case(arguments, path, "cl100k", first(100_256), CL100K, CL100K_SPECIAL)
        wrong += tiktoken_case(arguments, path, "llama3", first(128_000), LLAMA3, LLAMA3_SPECIAL)
        wrong += tiktoken_case(arguments, path, "other", first(30_000), LLAMA3, {})
        qwen_special = {"<|endoftext|>": 151643, "<|im_start|>": 151644, "<|im_end|>": 151645}
        wrong += tiktoken_case(arguments, path, "qwen", first(151_643), QWEN2, qwen_special, nfc=True)
        path = pathlib.Path(temporary) / "tokenizer.bin"
        for words in [True, False]:
            trained = io.BytesIO()
            sentencepiece.SentencePieceTrainer.train(
                sentence_iterator=iter(corpus.split("\n")), model_writer=trained, vocab_size=1500, model_type="bpe", byte_fallback=True,
                normalization_rule_name="identity", remove_extra_whitespaces=False, split_by_whitespace=words,
                split_by_unicode_script=words, character_coverage=0.999, max_sentence_length=100_000, minloglevel=2)
            for grain in [0, 7, 100, 10**9]:
                model = sentencepiece_model_pb2.ModelProto()
                model.ParseFromString(trained.getvalue())
                wrong += sentencepiece_case(arguments, path, model, grain, corpus.split(" "))
    sys.exit(wrong > 0)


if __name__ == "__main__":
    main()
