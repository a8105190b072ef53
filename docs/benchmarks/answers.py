"""Greedy answers beside lm-evaluation-harness: one model, one process, the same prompts, turn by turn.

    PYTHONPATH=docs python -m benchmarks.answers --model FOLDER                        # or --gguf-file FILE beside it
    PYTHONPATH=docs python -m benchmarks.answers --model FOLDER --batch 1 --rounds 3

`separate`: prompts of their own, 256 to 1,024 tokens. `shared`: four questions about each of four contexts of 1,024.
Both sides may pad as many prompts together as `--batch` says; how many texts are equal stands beside the ratio.
"""

import argparse
import random
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

import torch
from benchmarks.machine import describe
from lm_eval.api.instance import Instance

from evaluation.prompting import Prompt, decode
from evaluation.running.answering import answer
from evaluation.running.batching import Batching
from evaluation.running.harness import harness_model
from lit_longpo.engine import end_ids, generation_mode
from lit_longpo.policy import PolicyConfig, PromptFormat

_WORDS = ("river", "stone", "winter", "garden", "letter", "captain", "music", "bridge", "silver", "market", "orange")


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
    prompts = [Prompt(one, flags.new_tokens, tuple(dict.fromkeys(ends)), 0, len(one), 0, False) for one in ids]
    found = dict[int, list[int]]()
    for part in answer(model, prompts, Batching(flags.batch * max(map(len, ids)))):
        found |= part
    return [decode(found[number], prompt_format) for number in range(len(texts))]


def theirs(harness: Any, texts: Sequence[str], flags: Any) -> list[str]:
    """As the harness answers `generate_until`."""
    options = {"until": [], "max_gen_toks": flags.new_tokens, "do_sample": False}
    requests = [Instance("generate_until", {}, (text, options), number) for number, text in enumerate(texts)]
    return harness.generate_until(requests, disable_tqdm=True)


def timed(run: Callable[[], list[str]]) -> tuple[float, list[str]]:
    """Seconds, and what came."""
    start = time.perf_counter()
    texts = run()
    return time.perf_counter() - start, texts


def main() -> None:
    """See the top of this module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True)
    parser.add_argument("--gguf-file", default=None)
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--count", type=int, default=16)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--new-tokens", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    flags = parser.parse_args()
    policy = PolicyConfig(source=flags.model, gguf_file=flags.gguf_file, dtype="float32")
    prompt_format = policy.prompt_format()
    model = policy.load_base().eval()
    harness = harness_model(model, prompt_format, flags.batch)
    print(describe())
    for case in flags.cases:
        texts = CASES[case](flags.count, random.Random(flags.seed))
        seconds = dict[str, list[float]](ours=[], harness=[])
        for _ in range(flags.rounds):  # turn by turn, so that a busy minute meets both
            spent, own = timed(lambda: ours(model, prompt_format, texts, flags))  # noqa: B023
            seconds["ours"].append(spent)
            with torch.no_grad(), generation_mode(model):
                spent, other = timed(lambda: theirs(harness, texts, flags))  # noqa: B023
            seconds["harness"].append(spent)
        same = sum(a == b for a, b in zip(own, other, strict=True))
        ratios = [a / b for a, b in zip(seconds["ours"], seconds["harness"], strict=True)]
        spread = f"{min(ratios):.2f} - {max(ratios):.2f}"
        medians = {side: round(statistics.median(values), 2) for side, values in seconds.items()}
        print(
            f"{case}: {same} of {len(texts)} texts equal; ratio {statistics.median(ratios):.2f} ({spread}); {medians}"
        )


if __name__ == "__main__":
    main()
