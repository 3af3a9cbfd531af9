"""Numbers of Python's `gguf` package for the blocks that converter/src/gguf/quants_tests.rs makes.

    pip install gguf && python converter/tools/gguf_golden.py

Prints the constant GOLDEN of that test: type, two values, and the FNV-1a hash of every value's bits.
"""

import numpy as np
from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType as T
from gguf.quants import dequantize

# Where the f16 fields are in a block: any bits there would be infinities.
HALVES = {T.Q4_0: [0], T.Q4_1: [0, 2], T.Q5_0: [0], T.Q5_1: [0, 2], T.Q8_0: [0], T.Q4_K: [0, 2], T.Q5_K: [0, 2], T.Q6_K: [208]}


def blocks(count, size, halves):
    state = 1
    out = bytearray()
    for _ in range(count * size):
        state = (state * 6364136223846793005 + 1442695040888963407) % 2**64
        out.append(state >> 56)
    for block in range(count):
        for at in halves:
            out[block * size + at + 1] = 0x24 | out[block * size + at + 1] & 0x80  # about ±0.02
    return np.frombuffer(bytes(out), dtype=np.uint8)


for kind, halves in HALVES.items():
    _, size = GGML_QUANT_SIZES[kind]
    values = dequantize(blocks(16, size, halves), kind).astype(np.float32)
    digest = 0xCBF29CE484222325
    for byte in (values + 0.0).tobytes():
        digest = (digest ^ byte) * 0x100000001B3 % 2**64
    print(f'    (GgmlType::{kind.name.replace("_K", "K")}, {values[7]!r}, {values[-1]!r}, {digest:#x}),'.replace("np.float32(", "").replace("), ", ", ").replace(")),", "),"))
