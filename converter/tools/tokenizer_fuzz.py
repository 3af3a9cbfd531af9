#!/usr/bin/env python3
"""Random hostile texts and ids through `smidgen tokenizer` and Hugging Face's tokenizers: every difference.

    pip install tokenizers==0.23.3
    converter/tools/tokenizer_fuzz.py SMIDGEN DATA [--texts 200000] [--seed 1] [--only NAME,…] [--every]

DATA holds the tokenizer files (tok/, llama2c/, llmc/, ggml-vocab/). Each tokenizer is compared on as many texts
with special tokens as text and as special tokens, with and without the cache, and on as many lists of ids; and
once more with the tokenizer.json that `smidgen tokenizer convert` writes, read by Hugging Face's.
"""

import argparse
import json
import pathlib
import random
import subprocess
import sys
import tempfile
import unicodedata

from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, decoders, AddedToken

LLAMA3 = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
QWEN2 = LLAMA3.replace(r"\p{N}{1,3}", r"\p{N}")
CL100K = r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}++|\p{N}{1,3}| ?[^\s\p{L}\p{N}]++[\r\n]*+|\s++$|\s*[\r\n]|\s+(?!\S)|\s"


class Texts:
    """Texts of pieces that tokenizers stumble over."""

    def __init__(self, seed, special):
        self.random = random.Random(seed)
        by_category = {}
        for code in range(0x110000):
            if not 0xD800 <= code < 0xE000:
                by_category.setdefault(unicodedata.category(chr(code)), []).append(chr(code))
        by_category["Cn"] = by_category["Cn"][::97] + [chr(0xFFFE), chr(0x10FFFF), chr(0x1FFFF)]
        by_category["Co"] = by_category["Co"][::997]
        self.categories = list(by_category.values())
        self.special = special
        self.words = (
            "the of and cat Once upon naïve café HELLO World don't I'll WE'VE you're it's 's 'S 'lL 'ſ ’s x' internationalization "
            "안녕하세요 대한민국 漢字 日本語テスト Привет мир שלום مرحبا สวัสดี नमस्ते i̇ İ ß ẞ ſ K Å Ω ﬁ ǅ ʼn"
        ).split()
        self.spaces = [" ", "  ", "   ", "\n", "\n\n", "\r\n", "\r", "\t", "\x0b", "\x0c", "\x1c", "\x85", "\xa0", "\u1680", "\u2003", "\u2028",
                       "\u202f", "\u3000", "\u200b", "\ufeff", "\u180e", " \n", "\n ", " \n \n ", "       ", "▁", "▁▁", " ▁", "\xad"]
        self.marks = [chr(code) for code in range(0x300, 0x370)] + ["\u20dd", "\u0903", "\u093c", "\u3099", "\u309a", "\u0f71", "\u0f72", "\u0344", "\u1dce"]
        self.emoji = ["😀", "👨‍👩‍👧‍👦", "🏳️‍🌈", "👍🏽", "🇰🇷", "☺️", "❤️", "\u200d", "\ufe0f", "🏴\U000e0067\U000e0062\U000e007f", "1️⃣"]
        self.odd = ["\x00", "\x7f", "\ufffd", "\ufffe", "\x1b[0m", "Ġ", "Ċ", "Ã©", "<0x0A>", "<0xFF>", "##", "##ing", "[UNK]", "[unused0]", "\u0130",
                    "\u1100\u1161\u11a8", "가\u11a8", "각", "\u115f", "\u212b", "\u2126", "\u0958", "\uf900", "\U0002f800", "\U0001d15e", "\u0f77", "\u1e9b\u0323"]

    def piece(self):
        r = self.random
        kind = r.randrange(15)
        if kind <= 2:
            return r.choice(self.words)
        if kind <= 4:
            return r.choice(self.spaces) * r.choice([1, 1, 1, 2, 5])
        if kind == 5:
            return "".join(r.choice("0123456789") for _ in range(r.randrange(1, 9)))
        if kind == 6:
            return "".join(r.choice(self.marks) for _ in range(r.randrange(1, 5)))
        if kind == 7:
            return r.choice(self.emoji)
        if kind == 8:
            return r.choice(self.odd)
        if kind == 9:
            return r.choice(self.special) if self.special else "<|x|>"
        if kind == 10:
            return r.choice("!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~") * r.choice([1, 1, 2, 3, 7])
        if kind == 11:
            return r.choice("abcdefghij ABC'") * r.choice([1, 2, 3, 17, 40])
        if kind == 12:
            return chr(r.choice([r.randrange(0x80), r.randrange(0x800), r.randrange(0xAC00, 0xD7A4), r.randrange(0x4E00, 0xA000)]))
        return r.choice(r.choice(self.categories))

    def text(self):
        glue = self.random.choice(["", "", " "])
        return glue.join(self.piece() for _ in range(self.random.choice([0, 1, 2, 3, 4, 6, 8, 12])))


def around_each():
    """A text for each character of the planes that have any, with what patterns ask about around it."""
    codes = [code for code in [*range(0x40000), *range(0xE0000, 0xE0200), 0xF0000, 0x10FFFF] if not 0xD800 <= code < 0xE000]
    return [f"a{c}b {c}{c} 1{c}1 '{c}\n!{c} x {c}\u0301\n {c}S" for c in map(chr, codes)]


def bert(vocab, **options):
    tokens = {token: at for at, token in enumerate(vocab)}
    tokenizer = Tokenizer(models.WordPiece(tokens, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(**options)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    tokenizer.add_special_tokens(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"])
    return tokenizer


def split(regex):
    return pre_tokenizers.Sequence([
        pre_tokenizers.Split(_regex(regex), "isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
    ])


def _regex(text):
    from tokenizers import Regex

    return Regex(text)


def changed(path, change):
    """The tokenizer of a tokenizer.json after `change` of its JSON."""
    value = json.loads(pathlib.Path(path).read_text())
    change(value)
    return Tokenizer.from_str(json.dumps(value))


def cases(data):
    """name → (what smidgen reads, or None for the reference's own tokenizer.json; the reference)."""
    gpt2, smollm, llama = data / "tok/gpt2/tokenizer.json", data / "tok/smollm/tokenizer.json", data / "tok/llama_tokenizer.json"
    bert_file = data / "tok/bert-base-uncased_vocab.txt"
    vocab = bert_file.read_text().splitlines()
    qwen_dir = data / "tok/qwen2"

    def byte_level(regex, normalizer=None, ignore_merges=False):
        tokenizer = Tokenizer(models.BPE.from_file(str(qwen_dir / "vocab.json"), str(qwen_dir / "merges.txt"), ignore_merges=ignore_merges))
        tokenizer.normalizer = normalizer
        tokenizer.pre_tokenizer = split(regex)
        tokenizer.decoder = decoders.ByteLevel()
        tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]])
        return tokenizer

    def metaspace(scheme, cut):
        def change(value):
            value["normalizer"] = None
            value["pre_tokenizer"] = {"type": "Metaspace", "replacement": "▁", "prepend_scheme": scheme, "split": cut}
            if scheme == "never":
                value["decoder"]["decoders"] = value["decoder"]["decoders"][:3]
            for token in value["added_tokens"]:
                token["normalized"] = False
        return changed(llama, change)

    def roberta(value):
        value["pre_tokenizer"]["add_prefix_space"] = True
        value["added_tokens"].append(added(50257, "<mask>", lstrip=True))

    def added(at, content, **flags):
        return {"id": at, "content": content, "single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True} | flags

    def with_added(value):
        value["added_tokens"] += [
            added(50257, "<l>", lstrip=True), added(50258, "<r>", rstrip=True), added(50259, "<lr>", lstrip=True, rstrip=True),
            added(50260, "cat", single_word=True, special=False), added(50261, "<|end", special=False),
            added(50262, "  ", special=False), added(50263, "<n>", normalized=True, special=False), added(50264, "<n> the", normalized=True),
            added(50265, "<lw>", lstrip=True, single_word=True), added(50266, "\n\n", special=False, normalized=True),
        ]

    def llama_added(value):
        value["added_tokens"] += [
            added(32000, "<l>", lstrip=True), added(32001, "<r>", rstrip=True), added(32002, "<n>", normalized=True, special=False),
            added(32003, "cat", single_word=True, special=False), added(32004, "<nlr>", lstrip=True, rstrip=True, normalized=True, special=False),
            added(32005, "the", special=False, normalized=True, single_word=True),
        ]

    def gemma(value):
        value["normalizer"] = {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}
        value["pre_tokenizer"] = {"type": "Split", "pattern": {"String": " "}, "behavior": "MergedWithPrevious", "invert": False}
        value["decoder"] = {"type": "Sequence", "decoders": value["decoder"]["decoders"][:3]}
        for token in value["added_tokens"]:
            token["normalized"] = False

    def nfc(value):
        value["normalizer"] = {"type": "NFC"}
        for token in value["added_tokens"]:
            token["normalized"] = False

    uncased = lambda: bert(vocab)
    plain = {
        "gpt2": (gpt2, lambda: Tokenizer.from_file(str(gpt2))),
        "gpt2-llmc": (data / "llmc/gpt2_tokenizer_poro.bin", lambda: Tokenizer.from_file(str(gpt2))),
        "gpt2-gguf": (data / "ggml-vocab/ggml-vocab-gpt-2.gguf", lambda: Tokenizer.from_file(str(gpt2))),
        "gpt2-prefix": (None, lambda: changed(gpt2, roberta)),
        "gpt2-added": (None, lambda: changed(gpt2, with_added)),
        "smollm": (smollm, lambda: Tokenizer.from_file(str(smollm))),
        "llama3": (None, lambda: byte_level(LLAMA3)),
        "llama3-whole": (None, lambda: byte_level(LLAMA3, ignore_merges=True)),
        "cl100k": (None, lambda: byte_level(CL100K)),
        "qwen2": (qwen_dir, lambda: byte_level(QWEN2, normalizers.NFC())),
        "gpt2-nfc": (None, lambda: changed(gpt2, nfc)),
        "llama": (llama, lambda: Tokenizer.from_file(str(llama))),
        "llama-added": (None, lambda: changed(llama, llama_added)),
        "llama-gemma": (None, lambda: changed(llama, gemma)),
        "llama2c": (data / "llama2c/tokenizer.bin", lambda: Tokenizer.from_file(str(llama))),
        "llama-gguf": (data / "ggml-vocab/ggml-vocab-llama-spm.gguf", lambda: Tokenizer.from_file(str(llama))),
        "bert": (bert_file, uncased),
        "bert-gguf": (data / "ggml-vocab/ggml-vocab-bert-bge.gguf", uncased),
    }
    for scheme in ["always", "first", "never"]:
        for cut in [False, True]:
            plain[f"llama-{scheme}-{'words' if cut else 'whole'}"] = (None, lambda scheme=scheme, cut=cut: metaspace(scheme, cut))
    for bits in range(15):
        options = dict(clean_text=bool(bits & 1), handle_chinese_chars=bool(bits & 2), strip_accents=bool(bits & 4), lowercase=bool(bits & 8))
        plain[f"bert-rules-{bits}"] = (None, lambda options=options: bert(vocab, **options))
    return plain


def run(command, lines):
    text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
    done = subprocess.run(command, input=text.encode(), stdout=subprocess.PIPE, check=True)
    return [json.loads(line) for line in done.stdout.splitlines()]


def compare(name, what, inputs, found, wanted):
    wrong = [(i, f, w) for i, f, w in zip(inputs, found, wanted, strict=True) if f != w]
    for given, got, want in wrong[:5]:
        print(f"  {name} {what}: {given!r}\n    smidgen {got!r}\n    theirs  {want!r}")
    return len(wrong)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("smidgen")
    parser.add_argument("data", type=pathlib.Path)
    parser.add_argument("--texts", type=int, default=200_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", default="")
    parser.add_argument("--every", action="store_true", help="a text around each character instead of random ones")
    arguments = parser.parse_args()
    only = [name for name in arguments.only.split(",") if name]
    failed = 0
    for name, (path, reference) in cases(arguments.data).items():
        if only and name not in only:
            continue
        theirs = reference()
        specials = theirs.get_added_tokens_decoder()
        special_texts = [token.content for token in specials.values()]
        with tempfile.TemporaryDirectory() as temporary:
            if path is None:
                path = pathlib.Path(temporary) / "tokenizer.json"
                theirs.save(str(path))
            texts = Texts(f"{name}{arguments.seed}", special_texts)
            lines = around_each() if arguments.every else [texts.text() for _ in range(arguments.texts)]
            wrong = 0
            # llama2.c's and GGUF's special tokens have no "normalized" rule, which Hugging Face's file gives them.
            for parsed in [False] if name in ("llama2c", "llama-gguf") else [False, True]:
                theirs.encode_special_tokens = not parsed
                wanted = [encoding.ids for encoding in theirs.encode_batch_fast(lines, add_special_tokens=False)]
                for flags in [[], ["--no-cache"]]:
                    command = [arguments.smidgen, "tokenizer", "encode", "-t", str(path), "--jsonl", *flags, *["--parse-special"] * parsed]
                    found = [line["ids"] for line in run(command, [{"text": text} for text in lines])]
                    wrong += compare(name, f"encode parsed={parsed} {flags}", lines, found, wanted)
            # The file that ours writes, read by theirs.
            written = pathlib.Path(temporary) / "written.json"
            subprocess.run([arguments.smidgen, "tokenizer", "convert", "-t", str(path), "-o", str(written)], check=True, stderr=subprocess.DEVNULL)
            again = Tokenizer.from_file(str(written))
            again.encode_special_tokens = theirs.encode_special_tokens
            found = [encoding.ids for encoding in again.encode_batch_fast(lines, add_special_tokens=False)]
            wrong += compare(name, "encode by the written file", lines, found, wanted)
            # Ids of texts, cut anywhere, and any ids.
            size = theirs.get_vocab_size()
            pick = texts.random
            lists = [ids[pick.randrange(len(ids) + 1):] if pick.random() < 0.5 else ids for ids in wanted[: arguments.texts // 2]]
            lists += [[pick.randrange(pick.choice([size, min(size, 300)])) for _ in range(pick.randrange(8))] for _ in range(arguments.texts // 2)]
            # Theirs prints tokens that are matched in normalized text as normalized; ours as they are, and special ones not.
            printed = {at for at, token in specials.items() if token.normalized and (token.special or name == "llama-added")}
            lists = [[at for at in ids if at not in printed] for ids in lists]
            known = theirs.decode_batch(lists, skip_special_tokens=True)
            found = [line["text"] for line in run([arguments.smidgen, "tokenizer", "decode", "-t", str(path), "--jsonl"], [{"ids": ids} for ids in lists])]
            wrong += compare(name, "decode", lists, found, known)
            print(f"{name}: {len(lines)} texts, {len(lists)} lists of ids, {wrong} differences", flush=True)
            failed += wrong
    sys.exit(failed > 0)


if __name__ == "__main__":
    main()
