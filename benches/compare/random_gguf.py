"""Writes a GGUF model of random weights, in the shapes that shapes.rs has.

Run by run.py with the Python of its virtual environment, which has `gguf` and `numpy`:
    python random_gguf.py SHAPE QUANT CONTEXT FILE
"""

import sys

import gguf
import numpy as np

# dim, ffn, layers, heads, key heads, vocabulary, as in shapes.rs.
SHAPES = {
    "260k": ("llama", 64, 172, 5, 8, 4, 512),
    "15m": ("llama", 288, 768, 6, 6, 6, 32000),
    "110m": ("llama", 768, 2048, 12, 12, 12, 32000),
    "gpt2": ("gpt2", 768, 3072, 12, 12, 12, 50257),
}
QUANTS = {"q8": gguf.GGMLQuantizationType.Q8_0, "q4": gguf.GGMLQuantizationType.Q4_0}
# Both types are a 16-bit scale and then the integers of 32 weights.
BLOCK, BLOCK_BYTES = 32, {"q8": 34, "q4": 18}


def add_matrix(writer, noise, name, rows, cols, quant):
    """Adds `[rows, cols]` of noise; as llama-quantize does, in f16 where a row is no whole blocks."""
    if cols % BLOCK:
        writer.add_tensor(name, (noise.random((rows, cols), np.float32) * 0.04 - 0.02).astype(np.float16))
        return
    blocks = noise.integers(0, 256, (rows, cols // BLOCK, BLOCK_BYTES[quant]), np.uint8)
    scale = np.float16(0.02 / (127 if quant == "q8" else 8))
    blocks[:, :, :2] = np.frombuffer(scale.tobytes(), np.uint8)
    writer.add_tensor(name, blocks.reshape(rows, -1), raw_dtype=QUANTS[quant])


def main():
    shape, quant, context, path = sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4]
    arch, dim, ffn, layers, heads, kv_heads, vocab = SHAPES[shape]
    kv_dim = dim // heads * kv_heads
    noise = np.random.default_rng(1)
    writer = gguf.GGUFWriter(path, arch)
    writer.add_name(f"random {shape}")
    writer.add_context_length(context)
    writer.add_embedding_length(dim)
    writer.add_block_count(layers)
    writer.add_feed_forward_length(ffn)
    writer.add_head_count(heads)
    writer.add_head_count_kv(kv_heads)
    writer.add_vocab_size(vocab)
    # No tokenizer, as in our file: neither side pays memory for text that is never read.
    writer.add_tokenizer_model("no_vocab")
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_Q8_0 if quant == "q8" else gguf.LlamaFileType.MOSTLY_Q4_0)

    def matrix(name, rows, cols):
        add_matrix(writer, noise, f"{name}.weight", rows, cols, quant)

    def vector(name, length, value=0.0):
        writer.add_tensor(name, np.full(length, value, np.float32))

    def norm(name):
        vector(f"{name}.weight", dim, 1.0)
        if arch == "gpt2":
            vector(f"{name}.bias", dim)

    # The head is the embedding: there is no `output.weight`.
    matrix("token_embd", vocab, dim)
    norm("output_norm")
    if arch == "gpt2":
        writer.add_layer_norm_eps(1e-5)
        writer.add_tensor("position_embd.weight", noise.random((context, dim), np.float32) * 0.02)
    else:
        writer.add_layer_norm_rms_eps(1e-5)
        writer.add_rope_dimension_count(dim // heads)
        writer.add_rope_freq_base(10000.0)
    for layer in (f"blk.{i}" for i in range(layers)):
        norm(f"{layer}.attn_norm")
        norm(f"{layer}.ffn_norm")
        if arch == "gpt2":
            products = [("attn_qkv", 3 * dim, dim), ("attn_output", dim, dim), ("ffn_up", ffn, dim), ("ffn_down", dim, ffn)]
        else:
            products = [
                ("attn_q", dim, dim), ("attn_k", kv_dim, dim), ("attn_v", kv_dim, dim), ("attn_output", dim, dim),
                ("ffn_gate", ffn, dim), ("ffn_up", ffn, dim), ("ffn_down", dim, ffn),
            ]
        for name, rows, cols in products:
            matrix(f"{layer}.{name}", rows, cols)
            if arch == "gpt2":
                vector(f"{layer}.{name}.bias", rows)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


if __name__ == "__main__":
    main()
