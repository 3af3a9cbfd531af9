"""Writes model_grads.json: loss and all gradients of tiny models from Hugging Face transformers,
and the losses of ten steps of torch.optim.AdamW (clipped to a norm of 1) from there.

Parameters and tokens follow a formula that tests/model_golden.rs computes too, so the file
holds results only. Made with Python 3.11, torch 2.15.0, transformers 5.23.0.
Run: python model_grads.py > model_grads.json
"""
import json
import math
import sys

import torch
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

VOCAB, BATCH, SEQ = 19, 2, 7

rotary = dict(
    vocab_size=VOCAB,
    hidden_size=12,
    intermediate_size=14,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=2,
    max_position_embeddings=16,
    rms_norm_eps=1e-5,
    attn_implementation="eager",
)
theta = lambda x: {"rope_parameters": {"rope_type": "default", "rope_theta": x}}
models = {
    "gpt2": GPT2LMHeadModel(
        GPT2Config(
            vocab_size=VOCAB,
            n_positions=16,
            n_embd=12,
            n_layer=2,
            n_head=3,
            n_inner=20,
            resid_pdrop=0.0,
            embd_pdrop=0.0,
            attn_pdrop=0.0,
            attn_implementation="eager",
        )
    ),
    "llama": LlamaForCausalLM(
        LlamaConfig(**rotary, **theta(10000.0), head_dim=6, tie_word_embeddings=False)
    ),
    "qwen2": Qwen2ForCausalLM(
        Qwen2Config(**(rotary | {"hidden_size": 16}), **theta(500.0), tie_word_embeddings=True)
    ),
    "qwen3": Qwen3ForCausalLM(
        Qwen3Config(**rotary, **theta(500.0), head_dim=6, tie_word_embeddings=False)
    ),
}


def value(index, n, shape):
    """Parameter `index` (in the order of names) as [out, in] rows; norms lie around 1."""
    base = 1.0 if len(shape) == 1 and n.endswith("weight") else 0.0
    count = math.prod(shape)
    flat = [base + 0.35 * math.sin(0.731 * (index + 1) + 1.917 * i) for i in range(count)]
    return torch.tensor(flat, dtype=torch.float64).to(torch.float32).reshape(shape)


out = {}
for name, model in models.items():
    model.train()
    params = sorted((n, p) for n, p in model.named_parameters())
    transposed = lambda n: name == "gpt2" and n.split(".")[-2] in ("c_attn", "c_proj", "c_fc") and n.endswith("weight")
    with torch.no_grad():
        for index, (n, p) in enumerate(params):
            shape = tuple(p.shape)[::-1] if transposed(n) else tuple(p.shape)
            x = value(index, n, shape)
            p.copy_(x.T if transposed(n) else x)
    tokens = [(i * i * 7 + i * 3) % VOCAB for i in range(BATCH * (SEQ + 1))]
    rows = torch.tensor(tokens).reshape(BATCH, SEQ + 1)
    logits = model(input_ids=rows[:, :-1]).logits
    loss = torch.nn.functional.cross_entropy(logits.reshape(-1, VOCAB), rows[:, 1:].reshape(-1))
    loss.backward()
    grads = {}
    for n, p in params:
        g = p.grad.T if transposed(n) else p.grad
        grads[n] = [float(f"{x:.6e}") for x in g.flatten().tolist()]
    optimizer = torch.optim.AdamW(
        [
            {"params": [p for _, p in params if p.dim() >= 2], "weight_decay": 0.1},
            {"params": [p for _, p in params if p.dim() < 2], "weight_decay": 0.0},
        ],
        lr=0.01,
        betas=(0.9, 0.95),
        eps=1e-8,
    )
    losses = []
    for step in range(10):
        optimizer.zero_grad()
        logits = model(input_ids=rows[:, :-1]).logits
        again = torch.nn.functional.cross_entropy(logits.reshape(-1, VOCAB), rows[:, 1:].reshape(-1))
        losses.append(again.item())
        again.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    out[name] = {"loss": loss.item(), "losses": losses, "grads": grads}
json.dump(out, sys.stdout, separators=(",", ":"))
print()
