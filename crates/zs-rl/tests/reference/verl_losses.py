"""Losses, gradients and advantages of verl 0.9.1 in 64 bits: `verl_losses.json`, which the tests of algorithms read.

    python verl_losses.py VERL_SOURCE > verl_losses.json

VERL_SOURCE is the unpacked wheel of verl 0.9.1. Only the functions named here are run, with torch and numpy alone.
"""

import ast
import json
import sys
from collections import defaultdict
from types import SimpleNamespace
from typing import Any, Optional

import numpy as np
import torch

torch.set_default_dtype(torch.float64)


def functions(path, names, scope):
    tree = ast.parse(open(path).read())
    picked = [it for it in tree.body if isinstance(it, ast.FunctionDef) and it.name in names]
    assert {it.name for it in picked} == set(names)
    for it in picked:
        it.decorator_list = []
        it.returns = None
        for argument in it.args.args + it.args.kwonlyargs:
            argument.annotation = None
    exec(compile(ast.Module(picked, []), path, "exec"), scope)


root = sys.argv[1]
masks = {"torch": torch}
functions(
    f"{root}/verl/utils/torch_functional.py",
    ["masked_sum", "masked_mean", "masked_var", "masked_whiten"],
    masks,
)
verl = {
    "torch": torch,
    "np": np,
    "defaultdict": defaultdict,
    "Optional": Optional,
    "Any": Any,
    "ActorConfig": SimpleNamespace,
    "AlgoConfig": tuple,
    "verl_F": SimpleNamespace(**masks),
}
losses = {
    "sapo": "compute_policy_loss_sapo",
    "gmpo": "compute_policy_loss_geo_mean",
    "gpg": "compute_policy_loss_gpg",
    "dppo_tv": "compute_policy_loss_dppo_tv",
    "dppo_kl": "compute_policy_loss_dppo_kl",
}
advantages = {
    "opo": "compute_opo_outcome_advantage",
    "pass_at_k": "compute_grpo_passk_outcome_advantage",
    "gdpo": "compute_gdpo_outcome_advantage",
}
functions(
    f"{root}/verl/trainer/ppo/core_algos.py",
    [*losses.values(), *advantages.values(), "agg_loss", "compute_grpo_outcome_advantage"],
    verl,
)


class Config(SimpleNamespace):
    def get(self, key, default=None):
        return getattr(self, key, default)


verl["ActorConfig"] = Config
mask = torch.tensor([[1, 1, 0, 1, 1], [1, 0, 1, 1, 0], [1, 1, 1, 1, 1], [0, 1, 1, 0, 1]]).double()
old = -torch.tensor(
    [[1.2, 0.4, 2.1, 0.05, 3.0], [0.3, 1.7, 0.8, 1.1, 0.2], [2.5, 0.6, 0.1, 1.4, 0.9], [0.7, 0.02, 1.6, 2.2, 0.5]]
)
moved = torch.tensor(
    [[0.3, -0.3, 0.5, 0.04, -0.9], [-0.15, 0.5, -0.35, 0.38, 0.1], [1.1, 0.45, 0.09, -0.6, 0.2], [-0.5, -0.7, 0.6, 0.3, 0.45]]
)
scalar = torch.tensor([0.8, -1.1, 1.3, -0.6])
inputs = {"log_probs": old + moved, "old_log_probs": old, "advantages": scalar, "loss_mask": mask}
result = {"inputs": {key: it.tolist() for key, it in inputs.items()}, "losses": {}, "advantages": {}}
for name, function in losses.items():
    bound = 0.4 if name == "gmpo" else 0.05 if name == "dppo_kl" else 0.2
    config = Config(
        clip_ratio=bound,
        clip_ratio_low=bound,
        clip_ratio_high=bound,
        tau_pos=1.0,
        tau_neg=1.05,
        global_batch_info={},
    )
    log_probs = (old + moved).requires_grad_()
    mode = "seq-mean-token-mean" if name == "sapo" else "token-mean"
    loss, _ = verl[function](old, log_probs, scalar[:, None] * mask, mask, mode, config)
    loss.backward()
    result["losses"][name] = {"loss": loss.item(), "gradient": log_probs.grad.tolist()}

rewards = torch.tensor([1.0, 0.25, 0.75, 0.0])
other = torch.tensor([0.0, 1.0, 0.0, 0.5])
index = np.array(["a", "a", "a", "a"])
tokens = lambda scores: torch.nn.functional.pad(scores[:, None], (0, 4))
for name, function in advantages.items():
    more = {"config": Config(norm_adv_by_std_in_grpo=True)}
    if name == "gdpo":
        more = {
            "config": Config(gdpo_reward_keys=["f1", "format"], gdpo_reward_weights=[1.0, 0.5]),
            "non_tensor_batch": {"f1": rewards.numpy(), "format": other.numpy()},
            "batch": {"prompts": torch.zeros(4, 2), "attention_mask": torch.ones(4, 7).long()},
        }
    rows, _ = verl[function](tokens(rewards), mask, index, **more)
    result["advantages"][name] = (rows * mask).tolist()
result["rewards"] = {"f1": rewards.tolist(), "format": other.tolist()}
json.dump(result, sys.stdout, separators=(",", ":"))
