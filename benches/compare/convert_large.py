#!/usr/bin/env python3
"""Converts a random Llama of 1.1 billion parameters beside a plain copy of its directory.

    cargo build --release
    python benches/compare/convert_large.py target/release/smidgen SCRATCH_DIRECTORY [RUNS]

Makes the model (2.2 GB of BF16 in three shards; needs numpy) if it is not in the scratch directory, then runs
in turn, RUNS times (5): `cp -r` and `sync`, the conversion to Q8; prints medians and the peak memory. Free
space for three copies is needed. Delete the directory afterwards.
"""

import json
import os
import pathlib
import resource
import shutil
import statistics
import subprocess
import sys
import time

import numpy as np

DIM, FFN, LAYERS, HEADS, KV_HEADS, VOCAB = 2048, 5632, 22, 32, 4, 32000


def make(out):
    out.mkdir(parents=True)
    kv = DIM * KV_HEADS // HEADS
    tensors = [("model.embed_tokens.weight", (VOCAB, DIM)), ("model.norm.weight", (DIM,)), ("lm_head.weight", (VOCAB, DIM))]
    for layer in range(LAYERS):
        for name, shape in {
            "input_layernorm": (DIM,), "self_attn.q_proj": (DIM, DIM), "self_attn.k_proj": (kv, DIM),
            "self_attn.v_proj": (kv, DIM), "self_attn.o_proj": (DIM, DIM), "post_attention_layernorm": (DIM,),
            "mlp.gate_proj": (FFN, DIM), "mlp.up_proj": (FFN, DIM), "mlp.down_proj": (DIM, FFN),
        }.items():
            tensors.append((f"model.layers.{layer}.{name}.weight", shape))
    rng = np.random.default_rng(1)
    pool = (rng.standard_normal(1 << 23) * 0.02).astype(np.float32).view(np.uint32)
    pool = ((pool + 0x8000) >> 16).astype(np.uint16)  # BF16
    third = len(tensors) // 3
    index = {}
    for number, shard in enumerate([tensors[:third], tensors[third : 2 * third], tensors[2 * third :]], 1):
        name, header, at = f"model-{number:05d}-of-00003.safetensors", {}, 0
        for tensor, shape in shard:
            size = int(np.prod(shape)) * 2
            header[tensor] = {"dtype": "BF16", "shape": list(shape), "data_offsets": [at, at + size]}
            at += size
            index[tensor] = name
        text = json.dumps(header).encode()
        text += b" " * (-len(text) % 8)
        with open(out / name, "wb") as file:
            file.write(len(text).to_bytes(8, "little") + text)
            for _, shape in shard:
                left = int(np.prod(shape))
                while left:
                    begin = int(rng.integers(0, 1 << 16))
                    part = pool[begin : begin + left]
                    file.write(part.tobytes())
                    left -= len(part)
    (out / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": index}))
    (out / "config.json").write_text(json.dumps({
        "model_type": "llama", "hidden_size": DIM, "intermediate_size": FFN, "num_hidden_layers": LAYERS,
        "num_attention_heads": HEADS, "num_key_value_heads": KV_HEADS, "vocab_size": VOCAB, "max_position_embeddings": 2048,
        "rms_norm_eps": 1e-5, "rope_theta": 10000.0, "tie_word_embeddings": False, "hidden_act": "silu",
    }))


def seconds(run):
    os.sync()
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def main():
    program, scratch = sys.argv[1], pathlib.Path(sys.argv[2])
    runs = int(sys.argv[3]) if len(sys.argv) > 3 else 5
    model, copy, out = scratch / "model", scratch / "copy", scratch / "out.smidgen"
    if not model.exists():
        make(model)

    def plain_copy():
        subprocess.run(["cp", "-r", model, copy], check=True)
        subprocess.run(["sync", "-f", copy], check=True)

    def convert():
        subprocess.run([program, "convert", model, "-o", out], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    copies, conversions = [], []
    for _ in range(runs):
        copies.append(seconds(plain_copy))
        shutil.rmtree(copy)
        conversions.append(seconds(convert))
        out.unlink()
        print(f"copy {copies[-1]:.2f} s, convert {conversions[-1]:.2f} s", flush=True)
    a, b = statistics.median(copies), statistics.median(conversions)
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    print(f"medians of {runs}: copy {a:.2f} s, convert {b:.2f} s, {100 * a / b:.0f} % of the copy's rate; peak memory {peak:.0f} MiB")


if __name__ == "__main__":
    main()
