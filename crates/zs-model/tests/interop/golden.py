"""Writes a golden file for `zs verify` from a model directory, computed by transformers in float32.

    pip install torch transformers safetensors   # and peft for --adapter
    python golden.py --model DIR --out golden.safetensors
    zs verify --model DIR --golden golden.safetensors

Runs without a network. Each row is computed alone; the file holds `input_ids`, `lengths`, `logits`,
`greedy_ids`, `loss_row0` (mean next-token cross-entropy of row 0) and `grad.*` of that loss.
"""

import argparse

import torch
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM

ROWS, WIDTH, NEW_TOKENS = 3, 24, 16


def load(model_dir, adapter_dir):
    model = AutoModelForCausalLM.from_pretrained(
        model_dir, dtype=torch.float32, attn_implementation="eager", local_files_only=True
    )
    if adapter_dir:
        from peft import PeftModel

        model = PeftModel.from_pretrained(model, adapter_dir).merge_and_unload()
    return model.eval().requires_grad_(True)


def greedy(model, ids):
    with torch.no_grad():
        for _ in range(NEW_TOKENS):
            ids = torch.cat([ids, model(ids).logits[:, -1:].argmax(-1)], 1)
    return ids[0, -NEW_TOKENS:]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", required=True)
    parser.add_argument("--adapter", help="a directory in PEFT's layout to put on the model")
    parser.add_argument("--out", required=True)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()

    torch.manual_seed(args.seed)
    model = load(args.model, args.adapter)
    vocab = model.config.vocab_size
    # Rows of different lengths, so that a padded batch has padding.
    lengths = torch.tensor([WIDTH, WIDTH // 2, WIDTH - 5])
    input_ids = torch.randint(0, vocab, (ROWS, WIDTH))
    golden = {
        "input_ids": input_ids,
        "lengths": lengths,
        "logits": torch.zeros(ROWS, WIDTH, vocab),
        "greedy_ids": torch.zeros(ROWS, NEW_TOKENS, dtype=torch.int64),
    }
    for row, length in enumerate(lengths.tolist()):
        ids = input_ids[row : row + 1, :length]
        golden["logits"][row, :length] = model(ids).logits[0].detach()
        golden["greedy_ids"][row] = greedy(model, ids)

    ids = input_ids[:1, : lengths[0]]
    loss = torch.nn.functional.cross_entropy(model(ids).logits[0, :-1], ids[0, 1:])
    loss.backward()
    golden["loss_row0"] = loss.detach().reshape(1)
    for name, parameter in model.named_parameters():
        if parameter.grad is not None:
            golden["grad." + name] = parameter.grad
    save_file(golden, args.out)


if __name__ == "__main__":
    main()
