"""Does tokenising prompt and answer apart give the tokens of the joint text?

Responses share their prompt's tokens, so context, question and answers are tokenised apart. A tokenizer
that merges across those seams would give other tokens for the whole text. Training and evaluation use
the same seams, so nothing breaks; but a checkpoint served with joint tokenisation would see other ids.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from data_modules.records import PreferencePair
from lit_longpo.batch import Context
from lit_longpo.policy import PromptFormat


@dataclass(frozen=True)
class SeamReport:
    """Rows compared and rows that differ.

    Args:
        checked: pairs whose chosen answer was tokenised both ways.
        differing: how many gave other tokens.
        first: record of the first difference; `None` if there is none.
    """

    checked: int
    differing: int
    first: str | None


def compare_seams(prompt_format: PromptFormat, pairs: Sequence[PreferencePair], context: Context) -> SeamReport:
    """Compare the chosen answers of all pairs in one context, joint against apart."""
    differing = list[str]()
    for pair in pairs:
        text = pair.short_context if context == "short" else pair.long_context
        apart = prompt_format.encode_prompt(text, pair.question).ids + prompt_format.encode_response(pair.chosen)
        if apart != prompt_format.encode_jointly(text, pair.question, pair.chosen):
            differing.append(pair.id)
    return SeamReport(len(pairs), len(differing), differing[0] if differing else None)
