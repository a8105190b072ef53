"""Times optimizer steps of one implementation in this process and prints them as JSON.

`ours` is the packed row. `padded` is what a careful plain implementation does: chosen and rejected as two
right-padded rows through the same transformers model (sdpa), the head on answer positions only.
Both run DPO with precomputed reference values on the same random weights, tokens and AdamW.
"""

import argparse
import json
import random
import resource
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, Qwen2Config

from lit_longpo.batch import Group, Response
from lit_longpo.engine import PREFIX_SHARED, pack, score
from lit_longpo.objectives.pairwise import dpo_loss
from lit_longpo.policy.loading import enable_checkpointing

Step = Callable[[], Tensor]


@dataclass(frozen=True)
class Setting:
    """Sizes of one comparison; answers are the token counts of chosen and rejected."""

    prompt: int
    answers: tuple[int, int]
    layers: int
    hidden: int
    vocab: int
    checkpointing: bool


def make_model(setting: Setting, attention: str) -> nn.Module:
    torch.manual_seed(0)
    heads = max(1, setting.hidden // 32)
    config = Qwen2Config(
        vocab_size=setting.vocab,
        hidden_size=setting.hidden,
        intermediate_size=4 * setting.hidden,
        num_hidden_layers=setting.layers,
        num_attention_heads=heads,
        num_key_value_heads=max(1, heads // 2),
        max_position_embeddings=2**20,
        tie_word_embeddings=False,
        layer_types=["full_attention"] * setting.layers,
    )
    model = AutoModelForCausalLM.from_config(config, attn_implementation=attention)
    if setting.checkpointing:
        enable_checkpointing(model)
    return model.train()


def make_group(setting: Setting) -> Group:
    draw = random.Random(0)

    def tokens(count: int) -> tuple[int, ...]:
        return tuple(draw.randrange(setting.vocab) for _ in range(count))

    made = [
        Response("rejected" if number else "chosen", tokens(size), (True,) * size)
        for number, size in enumerate(setting.answers)
    ]
    return Group("record", "long", tokens(setting.prompt), tuple(made))


def _loss(chosen: Tensor, rejected: Tensor) -> Tensor:
    return dpo_loss(chosen, rejected, chosen.detach() - 0.1, rejected.detach() + 0.1, beta=0.1).mean()


def ours(setting: Setting) -> tuple[nn.Module, Step]:
    model, row = make_model(setting, PREFIX_SHARED), pack([make_group(setting)])

    def loss() -> Tensor:
        scores = score(model, row)
        return _loss(scores.log_probs("long", "chosen"), scores.log_probs("long", "rejected")[:, 0])

    return model, loss


def padded(setting: Setting) -> tuple[nn.Module, Step]:
    model, group = make_model(setting, "sdpa"), make_group(setting)
    rows = [group.prompt_ids + response.token_ids for response in group.responses]
    length = max(map(len, rows))
    ids = torch.tensor([row + (0,) * (length - len(row)) for row in rows])
    equal = len(set(map(len, rows))) == 1
    mask = None if equal else torch.tensor([[1] * len(row) + [0] * (length - len(row)) for row in rows])
    where = [torch.arange(setting.prompt - 1, len(row) - 1) for row in rows]

    def loss() -> Tensor:
        hidden = model.get_decoder()(input_ids=ids, attention_mask=mask, use_cache=False).last_hidden_state
        sums = []
        for number, index in enumerate(where):
            logits = model.lm_head(hidden[number, index]).float()
            sums.append(logits.log_softmax(-1).gather(1, ids[number, index + 1].unsqueeze(1)).sum())
        return _loss(sums[0].unsqueeze(0), sums[1].unsqueeze(0))

    return model, loss


SIDES = {"ours": ours, "padded": padded}


def measure(side: str, setting: Setting, steps: int, warmup: int) -> dict[str, object]:
    """First loss, seconds of each timed step, and memory before and at its peak."""
    model, loss = SIDES[side](setting)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)
    before = _peak_mib()
    wall, cpu, losses = list[float](), list[float](), list[float]()
    for _ in range(warmup + steps):
        started, used = time.perf_counter(), time.process_time()
        value = loss()
        value.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(value.item())
        wall.append(time.perf_counter() - started)
        cpu.append(time.process_time() - used)
    return {
        "side": side,
        "loss": losses[0],
        "wall": wall[warmup:],
        "cpu": cpu[warmup:],
        "peak_mib": _peak_mib(),
        "grown_mib": _peak_mib() - before,
    }


def _peak_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("side", choices=SIDES)
    parser.add_argument("--prompt", type=int, default=2000)
    parser.add_argument("--answers", type=int, nargs=2, default=(64, 64))
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--hidden", type=int, default=256)
    parser.add_argument("--vocab", type=int, default=32000)
    parser.add_argument("--checkpointing", action="store_true")
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--warmup", type=int, default=1)
    options = vars(parser.parse_args())
    side, steps, warmup = (options.pop(name) for name in ("side", "steps", "warmup"))
    options["answers"] = tuple(options["answers"])
    print(json.dumps(measure(side, Setting(**options), steps, warmup)))  # noqa: T201


if __name__ == "__main__":
    main()
