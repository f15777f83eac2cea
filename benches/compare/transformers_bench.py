"""The work of `cargo xtask bench model` with transformers and PyTorch, on the same shape.

    python benches/compare/transformers_bench.py 8m --json theirs.json
    cargo xtask bench model 8m --against theirs.json

Needs torch and transformers (and peft for work that trains adapters). Float32, all cores or one GPU
(`--device cuda`), eager PyTorch, SDPA attention; the best of a few tries counts. `--lora 0` trains all weights of any shape,
`--lora 16` adapters of that rank.

`--step` is the work of a step of ZeroSearch's, sampled with a static cache and a compiled decoding step, and updated in
micro-batches of 16 rows with recomputed blocks. `--bf16` samples from weights in bfloat16 and trains under autocast, with
weights and moments in float32.
"""

import argparse
import json
import resource
import time

import torch
from transformers import AutoModelForCausalLM, LlamaConfig, Qwen2Config

SMALL = dict(rows=64, prompt=128, new=64, update_rows=16, update_len=128, lora=None)
LARGE = dict(rows=8, prompt=128, new=16, update_rows=4, update_len=1024, lora=16)
STEP = dict(rows=320, prompt=512, new=500, update_rows=320, update_len=1024, lora=None)


def shape(vocab, hidden, ff, layers, heads, kv_heads, context, tied, theta=10_000.0):
    return Qwen2Config(
        vocab_size=vocab,
        hidden_size=hidden,
        intermediate_size=ff,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=kv_heads,
        max_position_embeddings=context,
        tie_word_embeddings=tied,
        rope_parameters={"rope_type": "default", "rope_theta": theta},
        bos_token_id=None,
        eos_token_id=None,
    )


SHAPES = {
    "tiny": lambda: shape(604, 128, 384, 4, 4, 2, 512, True),
    "8m": lambda: shape(4096, 256, 1024, 6, 4, 4, 2048, False),
    # Llama's block: no biases.
    "smollm2-135m": lambda: LlamaConfig(
        vocab_size=49_152,
        hidden_size=576,
        intermediate_size=1536,
        num_hidden_layers=30,
        num_attention_heads=9,
        num_key_value_heads=3,
        max_position_embeddings=8192,
        tie_word_embeddings=True,
        rope_parameters={"rope_type": "default", "rope_theta": 1e5},
        bos_token_id=None,
        eos_token_id=None,
    ),
    "qwen2.5-0.5b": lambda: shape(151_936, 896, 4864, 24, 14, 2, 32_768, True, 1e6),
    "qwen2.5-3b": lambda: shape(151_936, 2048, 11_008, 36, 16, 2, 32_768, True, 1e6),
}


def best(tries, work):
    """The shortest of some tries, by the clock on the wall and by processor time."""
    times = []
    for _ in range(tries):
        start, cpu_start = time.perf_counter(), time.process_time()
        work()
        if torch.cuda.is_initialized():
            torch.cuda.synchronize()
        times.append((time.perf_counter() - start, time.process_time() - cpu_start))
    return [min(it) for it in zip(*times)]


def policy_update(model, vocab, tries, autocast):
    """A clipped policy-gradient update, as one writes it first: padded rows, micro-batches of 16.

    8 prompts of 64 tokens with 8 episodes each, 192 to 256 tokens long, 36 of which an engine wrote.
    """
    prompts = torch.randint(0, vocab, (8, 64))
    lengths = [192 + 16 * (row % 5) for row in range(64)]
    tokens = torch.zeros(64, max(lengths), dtype=torch.long)
    mask = torch.zeros(64, max(lengths))
    for row, length in enumerate(lengths):
        tokens[row, :64] = prompts[row // 8]
        tokens[row, 64:length] = torch.randint(0, vocab, (length - 64,))
        mask[row, 64:length] = 1
        mask[row, 100:136] = 0
    attention_mask = torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]
    advantages = torch.tensor([1.0, -1.0] * 32)[:, None]
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-6)

    def update():
        optimizer.zero_grad()
        for part in torch.arange(64).split(16):
            with autocast():
                out = model(input_ids=tokens[part], attention_mask=attention_mask[part].long())
            log_probs = out.logits[:, :-1].float().log_softmax(-1)
            log_probs = log_probs.gather(-1, tokens[part, 1:, None])[..., 0]
            ratio = (log_probs - log_probs.detach()).exp()
            surrogate = torch.min(ratio * advantages[part], ratio.clamp(0.8, 1.2) * advantages[part])
            (-(surrogate * mask[part, 1:]).sum() / mask.sum()).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()

    return sum(lengths), best(tries, update)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", nargs="?", default="tiny")
    parser.add_argument("--json")
    parser.add_argument("--tries", type=int, default=3)
    parser.add_argument("--device", default="cpu", help="cpu, cuda or cuda:1")
    parser.add_argument("--step", action="store_true", help="the work of a step of ZeroSearch's")
    parser.add_argument("--lora", type=int, help="rank of the adapters to train; 0 trains all weights")
    parser.add_argument("--bf16", action="store_true", help="sample in bfloat16, train under autocast")
    args = parser.parse_args()

    torch.set_default_device(args.device)
    torch.manual_seed(0)
    if args.model in SHAPES:
        model = AutoModelForCausalLM.from_config(SHAPES[args.model](), dtype=torch.float32)
    else:
        model = AutoModelForCausalLM.from_pretrained(args.model, dtype=torch.float32)
    model.to(args.device)
    work = dict(STEP if args.step else SMALL if model.config.hidden_size < 512 else LARGE)
    if args.lora is not None:
        work["lora"] = args.lora or None

    def autocast():
        return torch.autocast(torch.device(args.device).type, torch.bfloat16, enabled=args.bf16)

    vocab = model.config.vocab_size
    runs = []

    def record(name, tokens, times):
        seconds, cpu_seconds = times
        run = dict(name=name, tokens=tokens, seconds=seconds, cpu_seconds=cpu_seconds)
        run.update(tokens_per_s=tokens / seconds, tokens_per_cpu_s=tokens / cpu_seconds)
        runs.append(run)
        print(
            f"{name:>8}: {tokens / seconds:9.0f} tokens/s, {tokens / cpu_seconds:.0f} a processor second",
            flush=True,
        )

    prompts = torch.randint(0, vocab, (work["rows"], work["prompt"]))

    def generate(new):
        def run():
            model.generate(
                prompts,
                attention_mask=torch.ones_like(prompts),
                do_sample=True,
                top_k=0,
                min_new_tokens=new,
                max_new_tokens=new,
                pad_token_id=0,
                # With it transformers compiles the step on a GPU.
                cache_implementation="static" if args.step else None,
            )

        return best(args.tries, run)

    model.eval()
    if args.bf16:
        model.to(torch.bfloat16)
    if args.step:
        generate(work["new"])  # compiles
    prefill = generate(1)
    whole = generate(work["new"])
    if args.bf16:
        model.to(torch.float32)
    record("prefill", work["rows"] * work["prompt"], prefill)
    record("decode", work["rows"] * (work["new"] - 1), [max(all - first, 1e-9) for all, first in zip(whole, prefill)])

    model.train()
    trained = model
    if work["lora"]:
        from peft import LoraConfig, get_peft_model

        targets = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
        config = LoraConfig(r=work["lora"], lora_alpha=32, target_modules=targets)
        trained = get_peft_model(model, config)
    optimizer = torch.optim.AdamW([it for it in trained.parameters() if it.requires_grad], lr=1e-6)
    rows = torch.randint(0, vocab, (work["update_rows"], work["update_len"]))

    if args.step:
        trained.gradient_checkpointing_enable()

    def update():
        optimizer.zero_grad()
        parts = rows.split(16 if args.step else len(rows))
        for part in parts:
            with autocast():
                loss = trained(input_ids=part, labels=part).loss
            (loss / len(parts)).backward()
        torch.nn.utils.clip_grad_norm_(trained.parameters(), 1.0)
        optimizer.step()

    record("update", rows.numel(), best(args.tries, update))
    if not work["lora"]:
        record("rl", *policy_update(model, vocab, args.tries, autocast))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(f"peak memory {peak / 2**30:.2f} GiB")
    if args.json:
        with open(args.json, "w") as file:
            json.dump(dict(model=args.model, device=args.device, runs=runs, peak_bytes=peak), file, indent=2)


if __name__ == "__main__":
    main()
