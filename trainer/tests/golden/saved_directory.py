"""Checks that what `smidgen train` saves is what transformers loads: weights, tokenizer, logits.

Trains a few steps of a model of each family, lets smidgen continue a text with the checkpoint as an f32 model
file, and compares the logits of every step with those of transformers, which loads the checkpoint's directory.
Checked with torch 2.15.0 and transformers 5.24.0.
Run: python saved_directory.py target/release/smidgen
"""
import json
import pathlib
import subprocess
import sys
import tempfile

import torch
import transformers

SMIDGEN = pathlib.Path(sys.argv[1]).resolve()
KINDS = {
    "llama": "--arch llama --kv-heads 2",
    "llama, untied": "--arch llama --kv-heads 2 --untied",
    "qwen3": "--arch llama --kv-heads 2 --qk-norm",
    "gpt2": "--arch gpt2",
    "gpt2, characters": "--arch gpt2 --tokenizer char",
}
SHAPE = "--layers 2 --dim 32 --heads 4 --context 64 --batch 4 --steps 60 --no-cache"
PROMPT = "Naïve cats sat "


def smidgen(folder, *arguments):
    command = [SMIDGEN, *" ".join(arguments).split()]
    return subprocess.run(command, cwd=folder, check=True, capture_output=True).stdout


def check(name, options, folder):
    text = "".join(f"The naïve cat sat on mat {i}. Two dogs, 3 mice and the cat ran off.\n" for i in range(400))
    (folder / "text.txt").write_text(text.replace("Two", "Naïve cats sat. Two"))
    vocabulary = "" if "char" in options else "--vocab 320"
    smidgen(folder, "train --data text.txt --out run", SHAPE, options, vocabulary)
    smidgen(folder, "convert run/checkpoint-000060 -o f32.smidgen --quant f32")
    command = [SMIDGEN, "generate", "f32.smidgen", "--prompt", PROMPT, "--temperature", "0", "--tokens", "24"]
    printed = subprocess.run(
        [*command, "--json", "--dump-logits", "logits.bin"], cwd=folder, check=True, capture_output=True
    )
    story = json.loads(printed.stdout)
    dump = torch.frombuffer(bytearray((folder / "logits.bin").read_bytes()), dtype=torch.float32)

    directory = folder / "run" / "checkpoint-000060"
    tokenizer = transformers.AutoTokenizer.from_pretrained(directory)
    model, report = transformers.AutoModelForCausalLM.from_pretrained(
        directory, dtype=torch.float32, attn_implementation="eager", output_loading_info=True
    )
    problems = {key: value for key, value in report.items() if value}
    assert not problems, problems
    plain = tokenizer(PROMPT, add_special_tokens=False)["input_ids"]
    assert story["prompt_tokens"][-len(plain) :] == plain, (story["prompt_tokens"], plain)
    ids = story["prompt_tokens"] + story["tokens"]
    with torch.no_grad():
        logits = model.eval()(torch.tensor([ids])).logits[0, len(story["prompt_tokens"]) - 1 :]
    dump = dump.reshape(-1, logits.shape[1])
    logits = logits[: len(dump)]
    largest = (logits - dump).abs().max().item()
    print(f"{name}: {type(model).__name__}, {len(dump)} steps, largest difference {largest:.1e} "
          f"of logits up to {logits.abs().max().item():.1f}")
    assert len(dump) >= 20 and largest < 1e-4


for name, options in KINDS.items():
    with tempfile.TemporaryDirectory() as folder:
        check(name, options, pathlib.Path(folder))
