"""The files in converter/tests/data, as PyTorch writes them.

    python converter/tools/torch_fixtures.py converter/tests/data

Number i of the tensor called NAME is ((31 i + len(NAME)) mod 64 − 32) / 64.
"""

import collections
import json
import pathlib
import sys

import torch

out = pathlib.Path(sys.argv[1])


def tensor(name, *shape):
    n = torch.Size(shape).numel()
    return (((torch.arange(n) * 31 + len(name)) % 64 - 32) / 64).reshape(shape)


def gpt2(conv1d):
    d, v, t, f = 8, 20, 6, 32
    shapes = {"wte.weight": (v, d), "wpe.weight": (t, d), "ln_f.weight": (d,), "ln_f.bias": (d,)}
    swap = (lambda a, b: (b, a)) if conv1d else (lambda a, b: (a, b))
    for name, shape in {
        "ln_1.weight": (d,), "ln_1.bias": (d,), "attn.c_attn.weight": swap(3 * d, d), "attn.c_attn.bias": (3 * d,),
        "attn.c_proj.weight": swap(d, d), "attn.c_proj.bias": (d,), "ln_2.weight": (d,), "ln_2.bias": (d,),
        "mlp.c_fc.weight": swap(f, d), "mlp.c_fc.bias": (f,), "mlp.c_proj.weight": swap(d, f), "mlp.c_proj.bias": (d,),
    }.items():
        shapes[f"h.0.{name}"] = shape
    return {f"transformer.{name}": tensor(f"transformer.{name}", *shape) for name, shape in shapes.items()}


# nanoGPT: compiled (names begin with _orig_mod.), head and embedding one tensor, optimizer state beside.
model = gpt2(conv1d=False)
model["lm_head.weight"] = model["transformer.wte.weight"]
torch.save(
    {
        "model": collections.OrderedDict((f"_orig_mod.{name}", value) for name, value in model.items()),
        "optimizer": {"state": {0: {"step": torch.tensor(3.0), "exp_avg": torch.zeros(3)}}, "param_groups": [{"lr": 1e-3, "betas": (0.9, 0.95)}]},
        "model_args": {"n_layer": 1, "n_head": 2, "n_embd": 8, "block_size": 6, "bias": True, "vocab_size": 20, "dropout": 0.0},
        "iter_num": 2000, "best_val_loss": torch.tensor(1.5), "config": {"dtype": "float16", "device": "cpu", "eval_only": False},
    },
    out / "nanogpt.pt",
)

# A directory as transformers wrote them before safetensors, in two shards of bf16 and f32.
directory = out / "pickled"
directory.mkdir(exist_ok=True)
weights = gpt2(conv1d=True)
first = {name: value.to(torch.bfloat16) for name, value in weights.items() if "h.0" not in name}
second = collections.OrderedDict((name, torch.nn.Parameter(value)) for name, value in weights.items() if "h.0" in name)
second._metadata = collections.OrderedDict([("", {"version": 1})])
index = {}
for number, shard in enumerate([first, second], 1):
    name = f"pytorch_model-0000{number}-of-00002.bin"
    torch.save(shard, directory / name)
    index |= dict.fromkeys(shard, name)
(directory / "pytorch_model.bin.index.json").write_text(json.dumps({"metadata": {}, "weight_map": index}))
(directory / "config.json").write_text(json.dumps({"model_type": "gpt2", "n_embd": 8, "n_layer": 1, "n_head": 2, "n_positions": 6, "vocab_size": 20}))

# What must never be run.
class Run:
    def __reduce__(self):
        import os
        return os.system, ("touch /tmp/smidgen-was-here",)

torch.save({"model": Run(), "model_args": {}}, out / "code.pt")
