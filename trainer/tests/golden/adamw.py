"""Prints the numbers of tests/adamw_golden.rs: five steps of torch.optim.AdamW with clipping.

Made with Python 3.11, torch 2.15.0. Run: python adamw.py
"""
import math

import torch

matrix = torch.tensor([[math.sin(1.0 + i * 4 + j) for j in range(4)] for i in range(3)])
vector = torch.tensor([math.cos(2.0 + i) for i in range(5)])
matrix.requires_grad_(True)
vector.requires_grad_(True)
optimizer = torch.optim.AdamW(
    [{"params": [matrix], "weight_decay": 0.1}, {"params": [vector], "weight_decay": 0.0}],
    betas=(0.9, 0.95),
    eps=1e-8,
)
for step in range(5):
    for group in optimizer.param_groups:
        group["lr"] = 0.01 * (step + 1)
    # The size grows from below the limit of the norm to far above it.
    size = 0.05 * 3.0**step
    matrix.grad = torch.tensor(
        [[size * math.sin(0.7 * (i * 4 + j) + step) for j in range(4)] for i in range(3)]
    )
    vector.grad = torch.tensor([size * math.cos(1.3 * i + step) for i in range(5)])
    norm = torch.nn.utils.clip_grad_norm_([matrix, vector], 1.0)
    optimizer.step()
    print(f"norm {step}: {norm.item():.8e}")
print("matrix", [f"{x:.8e}" for x in matrix.flatten().tolist()])
print("vector", [f"{x:.8e}" for x in vector.tolist()])
print("m", [f"{x:.8e}" for x in optimizer.state[matrix]["exp_avg"].flatten().tolist()])
print("v", [f"{x:.8e}" for x in optimizer.state[matrix]["exp_avg_sq"].flatten().tolist()])
