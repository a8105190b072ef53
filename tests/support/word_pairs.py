"""Pairs of a few known words, and the views that objectives ask of them."""

from support.word_tokenizer import word_tokenizer

from data_modules.records import PreferencePair
from lit_longpo.batch import View, Views
from lit_longpo.policy import PromptFormat, PromptTemplate

FORMAT = PromptFormat(word_tokenizer(), PromptTemplate())
LC, LR, SC, SR = (View(c, r) for c in ("long", "short") for r in ("chosen", "rejected"))
SOLOPO_DPO = Views((SC, SR, LC), (SC, SR, LC))
LONGPO = Views((LC, LR), (SC, SR))
SFT = Views((LC,))
VIEWS = {"sft": SFT, "dpo": Views((LC, LR), (LC, LR)), "solopo": SOLOPO_DPO, "longpo": LONGPO}


def words(first: int, count: int) -> str:
    return " ".join(f"word{(first + n) % 80}" for n in range(count))


def pair(number: int, long: int = 20, rejected: int = 2) -> PreferencePair:
    """Long context: a distractor, the fact (3 words), the other distractor. Short context: the fact."""
    fact = words(number, 3)
    before, after = words(40, (long - 3) // 2), words(60, long - 3 - (long - 3) // 2)
    context = f"{before}\n\n{fact}\n\n{after}"
    start = context.index(fact, len(before))
    return PreferencePair(
        f"r{number}",
        words(5, 2),
        fact,
        context,
        words(number, 1),
        tuple(words(number + 1 + m, 2) for m in range(rejected)),
        supporting=((start, start + len(fact)),),
    )
