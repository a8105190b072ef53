"""Cutting prompts in the middle by the official rules, and saying what was lost."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, get_args

Style = Literal["longbench", "longbench_v2"]


def truncate_middle(ids: Sequence[int], max_length: int, *, style: Style) -> list[int]:
    """Tokens that stay when a prompt is cut to a length.

    "longbench" (LV-Eval too) keeps `max_length // 2` tokens of either end, so an odd length loses one
    more; at 1 its slices keep everything, which is the official rule and of no use. "longbench_v2"
    keeps exactly `max_length`, the odd one at the end.

    Args:
        ids: tokens of the whole prompt. Shape: (num_tokens,)
        max_length: tokens to keep at most; a prompt that is not longer stays as it is.
        style: whose rule.

    Returns:
        The kept tokens, head and tail joined.

    Raises:
        ValueError: `max_length` below 1 or an unknown style.
    """
    if style not in get_args(Style):
        raise ValueError(f"expected a style of {', '.join(get_args(Style))}, got {style!r}")
    if max_length < 1:
        raise ValueError(
            f"expected max_length of at least 1 token, got {max_length}; pass the model's window minus 500"
        )
    ids = list(ids)
    if len(ids) <= max_length:
        return ids
    head = max_length // 2
    tail = head if style == "longbench" else max_length - head
    return ids[:head] + ids[-tail:]  # a tail of 0 is everything, as in the official slice


class Cut(Protocol):
    """A prompt that knows what it lost."""

    @property
    def num_tokens(self) -> int:
        """Tokens before truncation."""

    @property
    def num_lost(self) -> int:
        """Tokens that truncation removed."""


@dataclass(frozen=True)
class Truncation:
    """What truncation did to one task.

    Args:
        num_examples: prompts of the task.
        num_cut: prompts that were cut.
        num_tokens: tokens of all prompts before.
        num_lost: tokens that were removed.
    """

    num_examples: int
    num_cut: int
    num_tokens: int
    num_lost: int

    def __str__(self) -> str:
        share = self.num_lost / self.num_tokens if self.num_tokens else 0.0
        return f"{self.num_cut} of {self.num_examples} cut, {self.num_lost:,} tokens lost ({share:.1%})"


def truncation_report(prompts: Mapping[str, Iterable[Cut]]) -> dict[str, Truncation]:
    """What truncation did, by task.

    Args:
        prompts: of each task.
    """
    report = {}
    for task, items in prompts.items():
        cuts = list(items)
        report[task] = Truncation(
            len(cuts),
            sum(1 for cut in cuts if cut.num_lost),
            sum(cut.num_tokens for cut in cuts),
            sum(cut.num_lost for cut in cuts),
        )
    return report
