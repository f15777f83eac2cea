"""Makes the small checkpoints and golden files of `tests/families/` with transformers, in float32.

    pip install torch transformers safetensors
    python families.py OUT

One directory a family, with `config.json`, `model.safetensors` (bfloat16) and `golden.safetensors` (golden.py). Random
weights; vectors that start as ones or zeros are moved off them, so that a norm or bias that is left out shows.
"""

import subprocess
import sys
from pathlib import Path

import torch
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
    SmolLM3Config,
    SmolLM3ForCausalLM,
)

BASE = {
    "vocab_size": 48,
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
    "bos_token_id": 0,
    "eos_token_id": 1,
    "pad_token_id": None,
}
FAMILIES = {
    # Head width beside hidden / heads; a window that the context exceeds.
    "mistral": MistralForCausalLM(MistralConfig(**BASE, head_dim=8, sliding_window=48, rope_theta=1e6)),
    # Blocks 1 and 3 without rotation, tied head.
    "smollm3": SmolLM3ForCausalLM(
        SmolLM3Config(**BASE, no_rope_layers=[1, 0, 1, 0], rope_theta=5e6, tie_word_embeddings=True)
    ),
    # Biases on queries, keys, values and output.
    "llama_attention_bias": LlamaForCausalLM(LlamaConfig(**BASE, attention_bias=True)),
    # Biases and head norms.
    "qwen3_attention_bias": Qwen3ForCausalLM(Qwen3Config(**BASE, head_dim=8, attention_bias=True)),
}


def main():
    out = Path(sys.argv[1])
    for seed, (name, model) in enumerate(FAMILIES.items()):
        torch.manual_seed(seed)
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.dim() == 1:
                    parameter.add_(0.2 * torch.randn_like(parameter))
                else:
                    parameter.normal_(0.0, 0.3)
                parameter.copy_(parameter.bfloat16())
        model.to(torch.bfloat16).save_pretrained(out / name)
        golden = Path(__file__).with_name("golden.py")
        arguments = ["--model", out / name, "--out", out / name / "golden.safetensors"]
        subprocess.run([sys.executable, golden, *arguments], check=True)


if __name__ == "__main__":
    main()
