#!/usr/bin/env python3
"""Small random models as PyTorch's `transformers` makes, stores and computes them, in every format.

    pip install torch==2.15.0 transformers==5.24.0 gguf==0.19.0
    python converter/tools/parity_models.py converter/tests/data/parity

Writes the models and index.json: for each its place, the tokens it was shown, and the logits behind the last of
them (f32, eager attention). converter/tests/parity.rs compares ours with them. Models have dimensions that divide
by nothing convenient, and are stored in the spellings that there are: old and new keys, one file, shards, f16,
bf16, with and without wrappers' prefixes, and as llm.c's, llama2.c's, nanoGPT's and llama.cpp's own programs
write them.
"""

import json
import math
import pathlib
import struct
import sys

import gguf
import numpy as np
import safetensors.torch
import torch
import transformers

OUT = pathlib.Path(sys.argv[1])
TOKENS = [(7 * i + 3) % 40 for i in range(12)]
INDEX = []

LLAMA3 = {"rope_type": "llama3", "factor": 4.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 8}


def make(kind, seed, dtype=torch.float32, **options):
    """A model with random weights that `dtype` holds, in f32."""
    base = {"vocab_size": 40, "bos_token_id": 1, "eos_token_id": 2}
    if kind != "gpt2":
        base |= {"hidden_size": 16, "intermediate_size": 20, "num_hidden_layers": 2, "num_attention_heads": 4, "max_position_embeddings": 32}
    else:
        base |= {"n_embd": 16, "n_layer": 2, "n_head": 4, "n_positions": 32}
    config = transformers.AutoConfig.for_model(kind, **(base | options))
    config._attn_implementation = "eager"
    model = transformers.AutoModelForCausalLM.from_config(config).eval()
    random = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            noise = torch.randn(parameter.shape, generator=random)
            if parameter.dim() == 2:
                # Large enough that attention prefers some positions clearly.
                noise *= 1.5 / parameter.shape[1] ** 0.5
            else:
                noise = 0.1 * noise + ("norm" in name or "ln_" in name) * name.endswith("weight")
            parameter.copy_(noise.to(dtype))
    return model


def expect(place, model):
    with torch.no_grad():
        logits = model(torch.tensor([TOKENS])).logits[0, -1]
    INDEX.append({"path": place, "tokens": TOKENS, "logits": [float(x) for x in logits]})


def store(place, model, dtype=torch.float32, shards=False):
    """As `save_pretrained` does, which writes the new keys."""
    size = {"max_shard_size": "6KB"} if shards else {}
    copy = type(model)(model.config)
    copy.load_state_dict(model.state_dict())
    copy.to(dtype).save_pretrained(OUT / place, **size)
    (OUT / place / "generation_config.json").unlink()
    expect(place, model)
    return OUT / place


def old_keys(directory):
    """config.json as transformers 4 wrote it."""
    path = directory / "config.json"
    config = json.loads(path.read_text())
    rope = config.pop("rope_parameters", None)
    if rope:
        config["rope_theta"] = rope.pop("rope_theta")
        scaled = rope["rope_type"] != "default"
        if rope["rope_type"] == "linear":
            rope["type"] = rope.pop("rope_type")
        config["rope_scaling"] = rope if scaled else None
    config["torch_dtype"] = config.pop("dtype")
    config.pop("layer_types", None)
    path.write_text(json.dumps(config, indent=1))


def rename(directory, change, aligned=True, more=None):
    """Other names in model.safetensors, and its numbers at an odd place if not `aligned`."""
    path = directory / "model.safetensors"
    tensors = {change(name): value for name, value in safetensors.torch.load_file(path).items()}
    tensors |= more or {}
    safetensors.torch.save_file(tensors, path)
    if not aligned:
        file = path.read_bytes()
        length = int.from_bytes(file[:8], "little")
        header = file[8 : 8 + length].rstrip(b" ")
        header += b" " * (1 - len(header) % 2)
        path.write_bytes(len(header).to_bytes(8, "little") + header + file[8 + length :])


def pickle(directory, legacy):
    path = directory / "model.safetensors"
    tensors = safetensors.torch.load_file(path)
    path.unlink()
    torch.save(tensors, directory / "pytorch_model.bin", _use_new_zipfile_serialization=not legacy)


def llmc(place, model, version):
    """As `write_model` of llm.c's train_gpt2.py."""
    config, state = model.config, model.state_dict()
    padded = 128
    header = np.zeros(256, np.int32)
    header[:8] = [20240326, version, config.n_positions, config.vocab_size, config.n_layer, config.n_head, config.n_embd, padded]
    with open(OUT / place, "wb") as file:
        file.write(header.tobytes())

        def put(tensor):
            if version == 5:
                file.write(tensor.to(torch.bfloat16).contiguous().view(torch.int16).numpy().tobytes())
            else:
                file.write(tensor.contiguous().numpy().tobytes())

        wte = state["transformer.wte.weight"]
        put(torch.cat([wte, torch.zeros(padded - wte.shape[0], wte.shape[1])]))
        put(state["transformer.wpe.weight"])
        for part in ["ln_1.weight", "ln_1.bias", "attn.c_attn.weight", "attn.c_attn.bias", "attn.c_proj.weight", "attn.c_proj.bias",
                     "ln_2.weight", "ln_2.bias", "mlp.c_fc.weight", "mlp.c_fc.bias", "mlp.c_proj.weight", "mlp.c_proj.bias"]:
            for layer in range(config.n_layer):
                tensor = state[f"transformer.h.{layer}.{part}"]
                put(tensor.T if tensor.dim() == 2 else tensor)
        put(state["transformer.ln_f.weight"])
        put(state["transformer.ln_f.bias"])
    expect(place, model)


def nanogpt(place, model, legacy, prefix):
    """As nanoGPT's train.py saves. (Its GELU is exact; the logits here are of the tanh form.)"""
    config = model.config
    state = {}
    for name, tensor in model.state_dict().items():
        state[prefix + name] = tensor.T.contiguous() if tensor.dim() == 2 and ".h." in name else tensor
    arguments = {"n_layer": config.n_layer, "n_head": config.n_head, "n_embd": config.n_embd, "block_size": config.n_positions, "bias": True, "vocab_size": config.vocab_size, "dropout": 0.0}
    optimizer = torch.optim.AdamW(model.parameters()).state_dict()
    whole = {"model": state, "optimizer": optimizer, "model_args": arguments, "iter_num": 3, "best_val_loss": torch.tensor(1.5), "config": {"dtype": "bfloat16", "compile": True}}
    torch.save(whole, OUT / place, _use_new_zipfile_serialization=not legacy)
    expect(place, model)


def permute_reverse(weight, heads):
    """Halves to pairs, as llama2.c's export.py turns it round."""
    rows, cols = weight.shape
    return weight.view(heads, 2, rows // heads // 2, cols).transpose(1, 2).reshape(rows, cols)


def llama2c(place, model, version, group=16):
    """As llama2.c's export.py. Version 2 rounds: the model that is expected is the rounded one."""
    config, state = model.config, model.state_dict()
    tied = config.tie_word_embeddings
    layers = range(config.num_hidden_layers)
    blocks = ["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj", "mlp.gate_proj", "mlp.down_proj", "mlp.up_proj"]

    def of(name, layer=None):
        full = f"model.layers.{layer}.{name}.weight" if layer is not None else f"{name}.weight"
        tensor = state[full].clone()
        if "q_proj" in name:
            tensor = permute_reverse(tensor, config.num_attention_heads)
        if "k_proj" in name:
            tensor = permute_reverse(tensor, config.num_key_value_heads)
        return full, tensor.contiguous()

    with open(OUT / place, "wb") as file:
        vocab = config.vocab_size if tied or version > 0 else -config.vocab_size
        sizes = struct.pack("iiiiiii", config.hidden_size, config.intermediate_size, config.num_hidden_layers, config.num_attention_heads, config.num_key_value_heads, vocab, config.max_position_embeddings)
        if version > 0:
            header = struct.pack("I", 0x616B3432) + struct.pack("i", version) + sizes + struct.pack("B", int(tied))
            header += struct.pack("i", group) if version == 2 else b""
            file.write(header + b"\0" * (256 - len(header)))
        else:
            file.write(sizes)

        def put(tensor):
            file.write(tensor.to(torch.float32).numpy().tobytes())

        norms = [[of(name, layer)[1] for layer in layers] for name in ["input_layernorm", "post_attention_layernorm"]]
        if version == 0:
            put(of("model.embed_tokens")[1])
            [put(x) for x in norms[0]]
            [put(of(name, layer)[1]) for name in blocks[:4] for layer in layers]
            [put(x) for x in norms[1]]
            [put(of(name, layer)[1]) for name in blocks[4:] for layer in layers]
            put(of("model.norm")[1])
            angles = torch.outer(torch.arange(config.max_position_embeddings), 1.0 / 10000 ** (torch.arange(0, 4, 2) / 4))
            put(torch.cos(angles))
            put(torch.sin(angles))
            if not tied:
                put(of("lm_head")[1])
        else:
            [put(x) for kind in norms for x in kind]
            put(of("model.norm")[1])
            matrices = [("model.embed_tokens", None)] + [(name, layer) for name in blocks for layer in layers] + ([] if tied else [("lm_head", None)])
            for name, layer in matrices:
                full, tensor = of(name, layer)
                if version == 1:
                    put(tensor)
                    continue
                # The group need not divide a row: it is counted over the whole tensor.
                flat = tensor.reshape(-1, group)
                scale = flat.abs().max(dim=1).values / 127.0
                quants = torch.round(flat / scale[:, None]).to(torch.int8)
                file.write(quants.numpy().tobytes())
                put(scale)
                rounded = (quants.float() * scale[:, None]).reshape(tensor.shape)
                heads = {"q": config.num_attention_heads, "k": config.num_key_value_heads}.get(full.split("_proj")[0][-1] if "_proj" in full and "attn" in full else "")
                if heads:
                    # Pairs to halves.
                    rows, cols = rounded.shape
                    rounded = rounded.view(heads, rows // heads // 2, 2, cols).transpose(1, 2).reshape(rows, cols)
                state[full].copy_(rounded)
                if tied and full == "model.embed_tokens.weight":
                    state["lm_head.weight"].copy_(rounded)
    expect(place, model)


def gguf_file(place, model, kind):
    """As llama.cpp's convert_hf_to_gguf.py: names and keys are those of its package."""
    config, arch_name = model.config, model.config.model_type
    arch = {value: key for key, value in gguf.MODEL_ARCH_NAMES.items()}[arch_name]
    gpt2 = arch_name == "gpt2"
    layers = config.n_layer if gpt2 else config.num_hidden_layers
    names = gguf.get_tensor_name_map(arch, layers)
    writer = gguf.GGUFWriter(OUT / place, arch_name)
    writer.add_block_count(layers)
    writer.add_tokenizer_model("no_vocab")
    if gpt2:
        writer.add_context_length(config.n_positions)
        writer.add_embedding_length(config.n_embd)
        writer.add_feed_forward_length(4 * config.n_embd)
        writer.add_head_count(config.n_head)
        writer.add_layer_norm_eps(config.layer_norm_epsilon)
    else:
        rope = config.rope_parameters
        head_dim = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        writer.add_context_length(config.max_position_embeddings)
        writer.add_embedding_length(config.hidden_size)
        writer.add_feed_forward_length(config.intermediate_size)
        writer.add_head_count(config.num_attention_heads)
        writer.add_head_count_kv(config.num_key_value_heads)
        writer.add_layer_norm_rms_eps(config.rms_norm_eps)
        writer.add_rope_freq_base(rope["rope_theta"])
        writer.add_vocab_size(config.vocab_size)
        if arch_name != "qwen2":
            writer.add_key_length(head_dim)
            writer.add_value_length(head_dim)
        if arch_name == "llama":
            writer.add_rope_dimension_count(head_dim)
        if rope["rope_type"] == "linear":
            writer.add_rope_scaling_type(gguf.RopeScalingType.LINEAR)
            writer.add_rope_scaling_factor(rope["factor"])
        if rope["rope_type"] == "llama3":
            base, low, high, original = rope["rope_theta"], rope["low_freq_factor"], rope["high_freq_factor"], rope["original_max_position_embeddings"]
            factors = []
            for frequency in 1.0 / base ** (torch.arange(0, head_dim, 2).float() / head_dim):
                wavelength = 2 * math.pi / frequency
                if wavelength < original / high:
                    factors.append(1)
                elif wavelength > original / low:
                    factors.append(rope["factor"])
                else:
                    smooth = (original / wavelength - low) / (high - low)
                    factors.append(1 / ((1 - smooth) / rope["factor"] + smooth))
            writer.add_tensor("rope_freqs.weight", np.array(factors, np.float32))
    for name, tensor in model.state_dict().items():
        if name == "lm_head.weight" and config.tie_word_embeddings:
            continue
        if "q_proj.weight" in name and arch_name == "llama":
            tensor = permute_reverse(tensor, config.num_attention_heads)
        if "k_proj.weight" in name and arch_name == "llama":
            tensor = permute_reverse(tensor, config.num_key_value_heads)
        if gpt2 and tensor.dim() == 2 and ".h." in name:
            tensor = tensor.T
        new = names.get_name(name, try_suffixes=(".weight", ".bias"))
        array = tensor.float().contiguous().numpy()
        if tensor.dim() == 1 or kind == "f32":
            writer.add_tensor(new, array)
        elif kind == "f16":
            writer.add_tensor(new, array.astype(np.float16))
        else:
            number = gguf.GGMLQuantizationType[kind]
            writer.add_tensor(new, gguf.quantize(array, number), raw_dtype=number)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    expect(place, model)


def main():
    OUT.mkdir(parents=True, exist_ok=True)
    f16, bf16 = torch.float16, torch.bfloat16

    llama2 = make("llama", 1, tie_word_embeddings=False, rms_norm_eps=1e-5)
    store("llama2", llama2)
    old = store("llama2_old_keys", llama2)
    old_keys(old)
    rename(old, lambda name: "_orig_mod.module." + name, aligned=False)
    for version in [0, 1]:
        llama2c(f"llama2_v{version}.bin", llama2, version)
    gguf_file("llama2.gguf", llama2, "f32")

    llama3 = make("llama", 2, bf16, num_key_value_heads=2, tie_word_embeddings=True, rope_parameters=LLAMA3 | {"rope_theta": 500.0})
    store("llama3", llama3, bf16, shards=True)
    old_keys(store("llama3_old_keys", llama3, bf16))
    gguf_file("llama3.gguf", llama3, "BF16")

    wide = make("llama", 3, f16, num_key_value_heads=1, head_dim=10, attention_bias=True, mlp_bias=True, tie_word_embeddings=False, rope_parameters={"rope_type": "linear", "factor": 2.5, "rope_theta": 100.0})
    store("llama_biased", wide, f16)
    old_keys(store("llama_biased_old_keys", wide, f16))

    mistral = make("mistral", 4, bf16, num_key_value_heads=2, head_dim=8, sliding_window=None, tie_word_embeddings=False)
    store("mistral", mistral, bf16)
    old_keys(store("mistral_old_keys", mistral, bf16, shards=True))

    smollm = make("llama", 5, bf16, hidden_size=12, num_attention_heads=3, num_key_value_heads=1, tie_word_embeddings=True, rms_norm_eps=1e-5)
    pickle(store("smollm2", smollm, bf16), legacy=False)
    llama2c("smollm2_v2.bin", make("llama", 6, num_key_value_heads=2, tie_word_embeddings=True, rms_norm_eps=1e-5), 2)

    qwen2 = make("qwen2", 7, bf16, num_key_value_heads=2, tie_word_embeddings=True)
    store("qwen2", qwen2, bf16)
    old_keys(store("qwen2_old_keys", qwen2, bf16, shards=True))
    gguf_file("qwen2.gguf", qwen2, "f16")
    store("qwen2_untied", make("qwen2", 8, f16, num_key_value_heads=1, tie_word_embeddings=False, rope_parameters={"rope_type": "default", "rope_theta": 1e6}), f16)

    qwen3 = make("qwen3", 9, bf16, num_key_value_heads=2, head_dim=16, tie_word_embeddings=True)
    store("qwen3", qwen3, bf16)
    old_keys(store("qwen3_old_keys", qwen3))
    gguf_file("qwen3.gguf", qwen3, "f16")

    gpt2 = make("gpt2", 10)
    mask = torch.tril(torch.ones(32, 32)).view(1, 1, 32, 32).to(torch.uint8)
    buffers = {f"h.{layer}.attn.bias": mask.clone() for layer in range(2)}
    buffers |= {f"h.{layer}.attn.masked_bias": torch.tensor(-1e4) for layer in range(2)}
    store("gpt2", gpt2)
    rename(store("gpt2_bare_names", gpt2), lambda name: name.removeprefix("transformer."), aligned=False, more=buffers)
    gguf_file("gpt2.gguf", gpt2, "f32")
    llmc("gpt2_v3.bin", gpt2, 3)
    nanogpt("gpt2_nanogpt.pt", gpt2, False, "_orig_mod.")
    half = make("gpt2", 11, bf16, n_inner=28)
    pickle(store("gpt2_inner", half, bf16), legacy=True)
    rounded = make("gpt2", 12, bf16)
    llmc("gpt2_v5.bin", rounded, 5)
    nanogpt("gpt2_nanogpt_old.pt", rounded, True, "module._orig_mod.")

    about = {"torch": torch.__version__, "transformers": transformers.__version__, "models": INDEX}
    (OUT / "index.json").write_text(json.dumps(about))


main()
