"""Speed of PyTorch's training steps (forward, backward, clipping, fused AdamW) on this CPU.

    python torch_step.py a|b|c|d --dtype f32|bf16 [--compile] [--threads 2] [--seconds 5]

The shapes are those of the trainer's examples/step_speed.rs; attention is PyTorch's own fused one. Prints one
line of JSON: the median tokens a second of all steps timed, and the number of parameters.
Made with torch 2.15.0.
"""
import argparse
import json
import os
import statistics
import time

parser = argparse.ArgumentParser()
parser.add_argument("config", choices="abcd")
parser.add_argument("--dtype", choices=["f32", "bf16"], default="f32")
parser.add_argument("--compile", action="store_true")
parser.add_argument("--threads", type=int, default=2)
parser.add_argument("--seconds", type=float, default=5.0)
args = parser.parse_args()
os.environ["OMP_NUM_THREADS"] = str(args.threads)

import torch  # noqa: E402  (reads the number of threads when it is imported)
import torch.nn.functional as F  # noqa: E402
from torch import nn  # noqa: E402

torch.set_num_threads(args.threads)
torch.manual_seed(1)

# llama, layers, heads, dim, ffn, context, batch, vocab, biases
SHAPES = {
    "a": (False, 4, 4, 128, 512, 64, 12, 65, False),
    "b": (False, 6, 6, 384, 1536, 256, 16, 65, False),
    "c": (True, 6, 6, 288, 768, 256, 8, 32_000, False),
    "d": (False, 12, 12, 768, 3072, 256, 4, 50_257, True),
}
LLAMA, LAYERS, HEADS, DIM, FFN, CONTEXT, BATCH, VOCAB, BIAS = SHAPES[args.config]


def norm():
    return nn.RMSNorm(DIM, eps=1e-5) if LLAMA else nn.LayerNorm(DIM, eps=1e-5, bias=BIAS)


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm_1, self.norm_2 = norm(), norm()
        self.qkv = nn.Linear(DIM, 3 * DIM, bias=BIAS)
        self.out = nn.Linear(DIM, DIM, bias=BIAS)
        self.up = nn.Linear(DIM, FFN * (2 if LLAMA else 1), bias=BIAS)
        self.down = nn.Linear(FFN, DIM, bias=BIAS)

    def forward(self, x, turn):
        q, k, v = self.qkv(self.norm_1(x)).chunk(3, dim=-1)
        q, k, v = (t.unflatten(-1, (HEADS, -1)).transpose(1, 2) for t in (q, k, v))
        if LLAMA:
            q, k = turn(q), turn(k)
        attended = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.out(attended.transpose(1, 2).flatten(2))
        up = self.up(self.norm_2(x))
        if LLAMA:
            gate, up = up.chunk(2, dim=-1)
            return x + self.down(F.silu(gate) * up)
        return x + self.down(F.gelu(up, approximate="tanh"))


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.tokens = nn.Embedding(VOCAB, DIM)
        self.positions = None if LLAMA else nn.Embedding(CONTEXT, DIM)
        self.blocks = nn.ModuleList(Block() for _ in range(LAYERS))
        self.norm = norm()
        half = DIM // HEADS // 2
        angles = torch.outer(torch.arange(CONTEXT), 10_000.0 ** (-torch.arange(half) / half))
        self.register_buffer("cos", angles.cos(), persistent=False)
        self.register_buffer("sin", angles.sin(), persistent=False)
        for parameter in self.parameters():
            if parameter.dim() > 1:
                nn.init.normal_(parameter, std=0.02)

    def turn(self, x):
        first, second = x.chunk(2, dim=-1)
        turned = first * self.cos - second * self.sin, second * self.cos + first * self.sin
        return torch.cat(turned, dim=-1).type_as(x)

    def forward(self, inputs, targets):
        x = self.tokens(inputs)
        if self.positions is not None:
            x = x + self.positions.weight
        for block in self.blocks:
            x = block(x, self.turn)
        logits = F.linear(self.norm(x), self.tokens.weight)
        return F.cross_entropy(logits.flatten(0, 1), targets.flatten())


model = Model()
run = torch.compile(model) if args.compile else model
parameters = list(model.parameters())
optimizer = torch.optim.AdamW(parameters, lr=1e-4, betas=(0.9, 0.95), weight_decay=0.1, fused=True)
tokens = torch.randint(0, VOCAB, (BATCH, CONTEXT + 1))
inputs, targets = tokens[:, :-1].contiguous(), tokens[:, 1:].contiguous()


def step():
    start = time.perf_counter()
    optimizer.zero_grad(set_to_none=True)
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=args.dtype == "bf16"):
        loss = run(inputs, targets)
    loss.backward()
    nn.utils.clip_grad_norm_(parameters, 1.0)
    optimizer.step()
    return time.perf_counter() - start


for _ in range(3):
    step()
times, start = [], time.perf_counter()
while time.perf_counter() - start < args.seconds or len(times) < 3:
    times.append(step())
print(json.dumps({
    "tokens_per_second": BATCH * CONTEXT / statistics.median(times),
    "steps": len(times),
    "parameters": sum(p.numel() for p in parameters),
    "torch": torch.__version__,
}))
