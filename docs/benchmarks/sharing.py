"""What groups save that hold the beginning of their prompts together: tokens, FLOPs, and seconds of a CPU.

PYTHONPATH=docs python -m benchmarks.sharing                      # about two minutes of one core
PYTHONPATH=docs python -m benchmarks.sharing --book FILE --rounds 0   # the text of a book; counted alone

A book's words stand for tokens. Counted are forward and backward of the 8B shape, as in `plan`; measured is one step of
the small one, every form in turn, the least of all rounds. Times are process seconds and count threads.
"""

import argparse
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from unittest import mock

import torch
from benchmarks.flops import layer_weights
from benchmarks.machine import describe
from benchmarks.setting import Setting
from transformers import AutoModelForCausalLM

from lit_longpo.batch import Group, PackedBatch, Response
from lit_longpo.engine import SHARED_FROM, pack, score
from lit_longpo.engine.backends import merged
from lit_longpo.planning.flops import attention_flops

Tokens = Callable[[str, int], tuple[int, ...]]
_QUESTION, _ANSWER = 24, 32


def record(name: str, prompt: tuple[int, ...], tokens: Tokens, *, sequence: bool = False) -> Group:
    """A prompt with a chosen and a rejected answer."""
    answers = [tokens(f"{name} {role}", _ANSWER) for role in ("chosen", "rejected")]
    responses = tuple(
        Response("rejected" if number else "chosen", ids, (True,) * len(ids)) for number, ids in enumerate(answers)
    )
    return Group(name, "long", prompt, responses, score_sequence=sequence)


def about_a_book(book: tuple[int, ...], count: int, tokens: Tokens, *, sequence: bool = False) -> list[Group]:
    """Questions about one book, each a record of its own; LongPO also scores every token of the sequence."""
    prompts = [(*book, *tokens(f"question {number}", _QUESTION)) for number in range(count)]
    return [record(f"record {n}", prompt, tokens, sequence=sequence) for n, prompt in enumerate(prompts)]


def turns(book: tuple[int, ...], count: int, tokens: Tokens) -> list[Group]:
    """LongPO's own form: one record, whose later questions stand between the answers."""
    responses = []
    for role in ("chosen", "rejected"):
        ids, mask = list[int](), list[bool]()
        for number in range(count):
            asked = tokens(f"question {number}", _QUESTION) if number else ()
            ids += [*asked, *tokens(f"record {number} {role}", _ANSWER)]
            mask += [False] * len(asked) + [True] * _ANSWER
        responses.append(Response(role, tuple(ids), tuple(mask)))  # type: ignore[arg-type]
    prompt = (*book, *tokens("question 0", _QUESTION))
    return [Group("record", "long", prompt, tuple(responses), score_sequence=True)]


def behind_a_system_prompt(length: int, count: int, tokens: Tokens) -> list[Group]:
    """Documents that have nothing but a system prompt in common."""
    prompts = [(*tokens("system", 160), *tokens(f"document {n}", length)) for n in range(count)]
    return [record(f"record {n}", prompt, tokens) for n, prompt in enumerate(prompts)]


def flops(row: PackedBatch, setting: Setting) -> float:
    """Forward and backward of a row, nothing computed twice."""
    shape = setting.sizes
    weights = layer_weights(shape) * row.num_tokens + shape.vocab * shape.hidden * len(row.score_targets)
    return 3 * (2.0 * weights + attention_flops(shape.config(), row.table))


def counted(cases: dict[str, list[Group]], setting: Setting) -> str:
    """A line for each case."""
    lines = [
        "| row | tokens apart | together | ratio | PFLOP apart | together | ratio |",
        "| --- " + "| ---: " * 6 + "|",
    ]
    for name, groups in cases.items():
        apart, shared = pack(groups), pack(groups, shared_from=SHARED_FROM)
        work = [flops(row, setting) / 1e15 for row in (apart, shared)]
        sizes = f"{apart.num_tokens:,} | {shared.num_tokens:,} | {shared.num_tokens / apart.num_tokens:.3f}"
        lines.append(f"| {name} | {sizes} | {work[0]:,.2f} | {work[1]:,.2f} | {work[1] / work[0]:.3f} |")
    return "\n".join(lines)


def seconds(model: torch.nn.Module, row: PackedBatch, *, parts: bool = True) -> float:
    """One forward and backward; without `parts` keys are gathered for every segment."""
    model.zero_grad()
    start = time.process_time()
    with mock.patch.object(merged, "merges", merged.merges if parts else lambda *args: False):
        score(model, row).sums.sum().backward()
    return time.process_time() - start


def measured(cases: dict[str, list[Group]], setting: Setting, rounds: int) -> str:
    """A line for each case; every form once in each round."""
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(setting.sizes.config(), attn_implementation="prefix_shared").train()
    lines = [
        "| row | seconds apart | together | ratio | together, keys gathered | ratio |",
        "| --- " + "| ---: " * 5 + "|",
    ]
    for name, groups in cases.items():
        apart, shared = pack(groups), pack(groups, shared_from=SHARED_FROM)
        forms = [(apart, True), (shared, True), (shared, False)]
        taken = [[seconds(model, row, parts=parts) for row, parts in forms] for _ in range(rounds)]
        best = [min(column) for column in zip(*taken, strict=True)]
        ratios = [f"{value:.2f} | {value / best[0]:.2f}" for value in best[1:]]
        lines.append(f"| {name} | {best[0]:.2f} | {' | '.join(ratios)} |")
    return "\n".join(lines)


def cases_of(text: Sequence[str] | None, setting: Setting, length: int) -> dict[str, list[Group]]:
    """The rows that are compared."""
    tokens, vocab = setting.tokens, setting.sizes.vocab
    numbers = dict[str, int]()
    ids = [3 + numbers.setdefault(word, len(numbers)) % (vocab - 3) for word in text or ()]
    book = tuple(ids[:length]) if text else tokens("book", length)
    size = f"{len(book):,}"
    return {
        f"8 questions about a book of {size}, DPO": about_a_book(book, 8, tokens),
        f"4 questions about a document of {size}, LongPO, a record each": about_a_book(book, 4, tokens, sequence=True),
        "the same four as turns of one record": turns(book, 4, tokens),
        f"4 documents of {size} behind a system prompt of 160": behind_a_system_prompt(len(book), 4, tokens),
    }


def main() -> None:
    """See the top of this module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--book", type=Path, help="a text; none draws tokens")
    parser.add_argument("--tokens", type=int, default=16384, help="of the book that is counted")
    parser.add_argument("--timed", type=int, default=1024, help="tokens of the book that is measured")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    text = options.book.read_text(encoding="utf-8").split() if options.book else None
    print(describe())
    large = Setting(shape="8b")
    print(counted(cases_of(text, large, options.tokens), large))
    if options.rounds:
        small = Setting(shape="small")
        print(measured(cases_of(text, small, options.timed), small, options.rounds))


if __name__ == "__main__":
    main()
