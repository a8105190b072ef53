"""SoLoPO's pairs: short-to-long preference optimization (arXiv 2505.11166), section on data.

Sample answers to a question on its short context (supporting passages), score them against the gold
answer, take a right one as chosen and a wrong one as rejected. The long context holds the same
passages among irrelevant ones; nothing is generated on it.

Choices of ours where the paper is silent: the short context may hold a few distractors (`short_distractors`),
no distractor mentions a gold answer, passages come in random order, ties are drawn by seed, among right answers that
came to their end where there are some; samples may be taken at
several temperatures, and of the wrong ones the one that the model gives most often.
"""

import logging
from collections import Counter
from dataclasses import dataclass, field, replace
from typing import Literal

from data_modules.builders.generators.requests import Completion, Decoding, RequestTemplate
from data_modules.builders.recipes.base import REJECTED_HOLDS_GOLD, DroppedError, Recipe, Steps, Workbench
from data_modules.builders.recipes.filters import AnswerFilter, default_filters, first_reason
from data_modules.builders.recipes.judges import ContainsGold, Judge
from data_modules.qa_sets.contexts import AssembledContext
from data_modules.qa_sets.pairing import PairRecipe, UnbuildableError, build_contexts
from data_modules.records import PreferencePair, QARecord
from lit_longpo.errors import InputError
from lit_longpo.ranges import MOST, MOST_TOKENS, check_numbers

log = logging.getLogger(__name__)

_STEP_BY_STEP = (
    "Answer the question with the text above. Think step by step, then write the answer on a last line that "
    'begins with "Answer:".\n\nQuestion: {question}'
)


@dataclass
class SoLoPORecipe(Recipe):
    """Questions with supporting passages -> a short and a long context, one right and one wrong answer.

    Args:
        instruction: placeholder {question}; becomes the pair's question.
        decoding: of the samples (paper: temperature 0.85).
        samples: answers to each question (paper: 32).
        temperatures: of the samples in turn, in place of `decoding.temperature`: low ones find what the model usually
            says, high ones its other mistakes.
        judge: scores an answer against the gold ones. By another than `ContainsGold` (paper) a rejected answer may hold
            a gold one; such pairs are counted.
        min_margin: by how much chosen has to score better than rejected.
        min_chosen: score that chosen has to reach.
        without_right: no sample reaches `min_chosen`: drop the question, or take the gold answer as it is
            ("gold"; the pair is then off-policy, and counted as such).
        short_tokens: budget of the short context.
        long_tokens: budget of the long context.
        short_distractors: at most this many distractors in the short context.
        filters: answers that may be neither chosen nor rejected; `None` means refusals, repetitions, copies and
            answers without a word.
        wrong: which of the worst answers is rejected: one that is "drawn", or the "likeliest", which most samples give.
    """

    instruction: RequestTemplate = field(default_factory=lambda: RequestTemplate(_STEP_BY_STEP))
    decoding: Decoding = field(default_factory=lambda: Decoding(0.85, 1.0, 256))
    samples: int = 32
    judge: Judge = field(default_factory=ContainsGold)
    min_margin: float = 0.5
    min_chosen: float = 0.5
    without_right: Literal["drop", "gold"] = "drop"
    short_tokens: int = 1100
    long_tokens: int = 7500
    short_distractors: int = 2
    filters: list[AnswerFilter] | None = None
    temperatures: tuple[float, ...] = ()
    wrong: Literal["drawn", "likeliest"] = "drawn"

    accepts = (QARecord,)

    def __post_init__(self) -> None:
        self.filters = default_filters() if self.filters is None else self.filters
        check_numbers(self, "recipe.init_args.", samples=(1, MOST), temperatures=(0, 100), short_distractors=(0, MOST))
        check_numbers(self, "recipe.init_args.", min_margin=(0, 1), min_chosen=(0, 1))
        check_numbers(self, "recipe.init_args.", short_tokens=(1, MOST_TOKENS), long_tokens=(1, MOST_TOKENS))
        self.instruction.check("recipe.init_args.instruction", {"question"})
        if self.samples < 2 and self.without_right == "drop":
            raise InputError(f"expected at least 2 samples, got {self.samples}; set `recipe.init_args.samples: 32`")
        if self.samples < len(self.temperatures):
            log.warning(
                "%d samples take the first of the %d temperatures alone; raise `recipe.init_args.samples`",
                self.samples,
                len(self.temperatures),
            )
        self._budgets = PairRecipe(self.short_tokens, self.long_tokens, self.short_distractors)
        self._decodings = [replace(self.decoding, temperature=each) for each in self.temperatures] or [self.decoding]
        if self.samples > 1 and not any(each.temperature for each in self._decodings[: self.samples]):
            raise InputError(
                f"expected samples that differ, got temperature 0 for all {self.samples}, which gives one "
                f"answer {self.samples} times; set `recipe.init_args.decoding.temperature: 0.85` (paper), or "
                "`samples: 1` with `without_right: gold`"
            )

    def steps(self, item: QARecord, bench: Workbench) -> Steps[PreferencePair]:
        """One round of samples."""
        short, long = self._contexts(item, bench)
        question = self.instruction.render(question=item.question)
        decodings = [self._decodings[n % len(self._decodings)] for n in range(self.samples)]
        replies = yield [bench.ask("sample", short.text, question, how, n) for n, how in enumerate(decodings)]
        chosen, rejected = self._choose(self._usable(replies, short.text, bench), replies, item, bench)
        return PreferencePair(
            id=item.id,
            question=question,
            short_context=short.text,
            long_context=long.text,
            chosen=chosen,
            rejected=(rejected,),
            answers=item.answers,
            supporting=long.supporting,
        )

    def _contexts(self, item: QARecord, bench: Workbench) -> tuple[AssembledContext, AssembledContext]:
        try:
            return build_contexts(item, bench.pool, self._budgets, bench.tokens.count, bench.rng("contexts"))
        except UnbuildableError as error:
            raise DroppedError(str(error).replace("data.init_args", "recipe.init_args")) from error

    def _usable(self, replies: list[Completion], context: str, bench: Workbench) -> list[str]:
        """Different answers that no filter refuses; cut-off answers are counted but stay in."""
        bench.count_cut_off(replies)
        texts = [reply.text for reply in replies]
        return sorted({text for text in texts if first_reason(self.filters or (), text, context, bench) is None})

    def _choose(self, texts: list[str], replies: list[Completion], item: QARecord, bench: Workbench) -> tuple[str, str]:
        """One of the best and one of the worst answers, drawn by seed."""
        right, wrong = self._right_and_wrong(texts, item, bench)
        ended = {reply.text for reply in replies if reply.finished} | set(item.answers)
        right = [text for text in right if text in ended] or right
        wrong = _likeliest(wrong, replies) if self.wrong == "likeliest" else wrong
        rng = bench.rng("choose")
        chosen, rejected = rng.choice(right), rng.choice(wrong)
        bench.count_chosen(finished=chosen in ended)
        holds_gold = ContainsGold(self.judge.after).score(bench.said(rejected), item.answers)
        bench.counts[REJECTED_HOLDS_GOLD] += bool(holds_gold)
        return chosen, rejected

    def _right_and_wrong(self, texts: list[str], item: QARecord, bench: Workbench) -> tuple[list[str], list[str]]:
        """The best of the answers, or the gold one in their place, and the worst of the others."""
        scores = {text: self.judge.score(bench.said(text), item.answers) for text in texts}
        best, worst = max(scores.values(), default=0.0), min(scores.values(), default=0.0)
        right = [text for text in texts if scores[text] == best >= self.min_chosen]
        if not right:
            right, best = [self._gold(item, bench)], self.judge.score(item.answers[0], item.answers)
        wrong = [text for text in texts if scores[text] == worst and text not in right]
        if not wrong:
            raise DroppedError("no sample is wrong")
        if best - worst < self.min_margin or best <= worst:
            raise DroppedError("right and wrong are closer than min_margin")
        return right, wrong

    def _gold(self, item: QARecord, bench: Workbench) -> str:
        """The gold answer, where no sample is right."""
        if self.without_right == "drop":
            raise DroppedError("no sample is right: `recipe.without_right: gold` would choose the gold answer")
        bench.counts["chosen is the gold answer, not a sample"] += 1
        return item.answers[0]


def _likeliest(texts: list[str], replies: list[Completion]) -> list[str]:
    """Those that the most replies give."""
    times = Counter(reply.text for reply in replies)
    most = max(times[text] for text in texts)
    return [text for text in texts if times[text] == most]
