"""Logits of Hugging Face's transformers for the directories that the converter's test writes.

    SMIDGEN_GOLDEN_DIR=/tmp/golden cargo test -p smidgen-converter -- --ignored write_models_for_transformers
    python converter/tools/transformers_golden.py /tmp/golden

Prints the constants of converter/src/huggingface/golden_tests.rs.
"""

import pathlib
import sys

import torch
import transformers

for directory in sorted(pathlib.Path(sys.argv[1]).iterdir()):
    model, report = transformers.AutoModelForCausalLM.from_pretrained(
        directory, dtype=torch.float32, attn_implementation="eager", output_loading_info=True
    )
    problems = {key: value for key, value in report.items() if value}
    assert not problems, problems
    tokens = torch.tensor([[(7 * i + 3) % 20 for i in range(12)]])
    with torch.no_grad():
        logits = model.eval()(tokens).logits[0, -1, :8]
    print(f'("{directory.name}", [{", ".join(f"{x:.5f}" for x in logits.tolist())}]),')
