"""One question with passages -> one preference pair with a short and a long context. Pure."""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from typing import Literal

from data_modules.qa_sets.contexts import AssembledContext, BudgetError, CountTokens, build_context
from data_modules.qa_sets.matching import answered_by, mentions
from data_modules.qa_sets.wrong_answers import WrongAnswer, read_wrong_answers, wrong_answers
from data_modules.records import Passage, PreferencePair, QARecord, Turn
from lit_longpo.errors import InputError, first_names
from lit_longpo.files.plain_text import is_blank

RejectedFrom = Literal["short", "long"]

_PLACES = ("supporting passages", "distractors of the short context", "distractors of the long context")
_FULL = 0.9  # a long context below this share of its budget counts as underfilled


class UnbuildableError(InputError):
    """No pair can be made of a record; the message is the reason, worded alike for all such records."""


@dataclass(frozen=True)
class PairRecipe:
    """What contexts and answers are made of.

    Args:
        short_tokens: budget of the short context, in tokens.
        long_tokens: budget of the long context, in tokens.
        short_distractors: at most this many distractors in the short context.
        num_rejected: wrong answers of each pair.
        seed: of every random choice.
        rejected_from: where wrong answers are read: in the "short" context, facts first (the long one's distractors
            only where it holds none of the answer's kind), or in the distractors of the "long" one.
        turns: questions about the same supporting passages that become turns of one pair, at most this many.
    """

    short_tokens: int = 512
    long_tokens: int = 2048
    short_distractors: int = 2
    num_rejected: int = 1
    seed: int = 0
    rejected_from: RejectedFrom = "short"
    turns: int = 1

    def __post_init__(self) -> None:
        if self.short_tokens > self.long_tokens:
            raise InputError(
                f"expected short_tokens <= long_tokens, got {self.short_tokens} and {self.long_tokens}; raise "
                "`long_tokens`, or lower `short_tokens`"
            )


@dataclass
class PairingReport:
    """What became of one split's records.

    Args:
        records: records read.
        built: pairs made of them.
        questions: in these pairs, one for each turn.
        underfilled: pairs whose long context stayed below nine tenths of its budget, because there were
            not enough distractors without the answer.
        left_out: identifiers of the records without a pair, by reason.
        rejected_from: rejected answers by where they were read.
        unread: identifiers of questions of pairs whose gold answer is in no supporting passage: nothing there says it.
    """

    records: int = 0
    built: int = 0
    questions: int = 0
    underfilled: int = 0
    left_out: dict[str, list[str]] = field(default_factory=dict)
    rejected_from: dict[str, int] = field(default_factory=dict)
    unread: list[str] = field(default_factory=list)

    def lines(self) -> list[str]:
        """What happened, in sentences."""
        reasons = [f"{len(ids)} left out ({reason}): {first_names(ids, 5)}" for reason, ids in self.left_out.items()]
        turns = f" with {self.questions} questions" if self.questions > self.built else ""
        if self.unread:
            reasons.append(
                f"{len(self.unread)} with an answer that no supporting passage holds: {first_names(self.unread, 5)}"
            )
        counts = f"{self.built} pairs{turns} from {self.records} records"
        read = ", ".join(f"{count} in {place}" for place, count in self.rejected_from.items())
        places = f"; rejected answers read: {read}" if read else ""
        return [f"{counts}, {self.underfilled} with an underfilled long context{places}", *reasons]

    def leave_out(self, reason: str, records: Sequence[QARecord]) -> None:
        """Note records without a pair."""
        self.left_out.setdefault(reason, []).extend(record.id for record in records)

    def count(self, wrong: Sequence[WrongAnswer]) -> None:
        """Add a pair's rejected answers."""
        for answer in wrong:
            place = _PLACES[answer.place]
            self.rejected_from[place] = self.rejected_from.get(place, 0) + 1


def build_contexts(
    record: QARecord,
    pool: Sequence[Passage],
    recipe: PairRecipe,
    count_tokens: CountTokens,
    rng: random.Random,
) -> tuple[AssembledContext, AssembledContext]:
    """Short and long context of a question.

    Raises:
        UnbuildableError: the record has no question or no answer, or its passages are too long.
    """
    if reason := _unasked(record):
        raise UnbuildableError(reason)
    supporting = [passage for passage in record.passages if passage.supporting]
    distractors = _distractors(record, pool, rng)
    try:
        short = build_context(supporting, distractors, recipe.short_tokens, count_tokens, rng, recipe.short_distractors)
        candidates = chain(short.distractors, _distractors(record, pool, rng, without=short.distractors))
        long = build_context(supporting, candidates, recipe.long_tokens, count_tokens, rng)
    except BudgetError as error:
        raise UnbuildableError("the supporting passages alone exceed `data.init_args.short_tokens`") from error
    return short, long


def build_pair(
    records: Sequence[QARecord],
    pool: Sequence[Passage],
    recipe: PairRecipe,
    count_tokens: CountTokens,
    report: PairingReport,
) -> PreferencePair | None:
    """Short context: supporting passages and a few distractors. Long: the same and many more.

    Distractors are the records' own first, then the pool's; none of them mentions a gold answer. Both answers can be
    read in the long context; with `recipe.rejected_from: short` in the short one, too, wherever it holds a wrong one.

    Args:
        records: questions about the same supporting passages: the turns of the pair.
        pool: further distractors.
        recipe: budgets and seed; the result depends on nothing else.
        count_tokens: tokens of a text.
        report: counts records without a pair, and where rejected answers were read.

    Returns:
        The pair, of the questions that can be asked; `None` if there is none.
    """
    rng = random.Random(f"{recipe.seed}/{records[0].id}")
    try:
        short, long = build_contexts(_joined(records), pool, recipe, count_tokens, rng)
    except UnbuildableError as error:
        report.leave_out(str(error), records)
        return None
    asked, turns = list[QARecord](), list[Turn]()
    for record in records:
        wrong = _wrong_answers(record, short, long, recipe, rng)
        if len(wrong) < recipe.num_rejected:
            where = "distractors" if recipe.rejected_from == "long" else "passages"
            report.leave_out(f"fewer than {recipe.num_rejected} wrong answers in the {where}", [record])
            continue
        report.count(wrong)
        asked.append(record)
        if not answered_by(record.answers, record.passages):
            report.unread.append(record.id)
        rejected = tuple(answer.text for answer in wrong)
        turns.append(Turn(record.question, short.text, record.answers[0], rejected))
    if not turns:
        return None
    report.questions += len(turns)
    return PreferencePair.from_turns(asked[0].id, long.text, turns, asked[0].answers, long.supporting)


def _joined(records: Sequence[QARecord]) -> QARecord:
    """The first record with the answers of all, which distractors must not mention."""
    answers = tuple(dict.fromkeys(answer for record in records for answer in record.answers))
    return replace(records[0], answers=answers)


def _wrong_answers(
    record: QARecord, short: AssembledContext, long: AssembledContext, recipe: PairRecipe, rng: random.Random
) -> Sequence[WrongAnswer]:
    count, asked = recipe.num_rejected, (record.question, record.answers)
    if recipe.rejected_from == "long":
        return [WrongAnswer(text, 2) for text in wrong_answers(*asked, long.distractors, count, rng)]
    supporting = [passage for passage in record.passages if passage.supporting]
    return read_wrong_answers(*asked, (supporting, short.distractors, long.distractors), count, rng)


def build_pairs(
    records: Sequence[QARecord],
    pool: Sequence[Passage],
    recipe: PairRecipe,
    count_tokens: CountTokens,
    report: PairingReport,
) -> list[PreferencePair]:
    """Pairs of all records that hold one; the others are counted in the report, by reason."""
    pairs = list[PreferencePair]()
    report.records += len(records)
    for turns in _turns_of(records, recipe.turns, report):
        pair = build_pair(turns, pool, recipe, count_tokens, report)
        if pair is None:
            continue
        report.built += 1
        report.underfilled += count_tokens(pair.long_context) < _FULL * recipe.long_tokens
        pairs.append(pair)
    return pairs


def _turns_of(records: Sequence[QARecord], most: int, report: PairingReport) -> list[list[QARecord]]:
    """Records that share a pair, in order of the first of each; those that no pair can ask are left out."""
    open_groups, groups = dict[tuple[str, ...], list[QARecord]](), list[list[QARecord]]()
    for record in records:
        if reason := _unasked(record):
            report.leave_out(reason, [record])
            continue
        about = tuple(passage.text for passage in record.passages if passage.supporting)
        if about not in open_groups or len(open_groups[about]) == most:
            open_groups[about] = []
            groups.append(open_groups[about])
        open_groups[about].append(record)
    return groups


def _unasked(record: QARecord) -> str:
    """Why a record's question cannot be asked in a pair; empty if it can."""
    if is_blank(record.question):
        return "the question is empty"
    return "" if record.answers else record.unanswered


def _distractors(
    record: QARecord, pool: Sequence[Passage], rng: random.Random, without: Sequence[Passage] = ()
) -> Iterator[Passage]:
    """The record's own distractors, then the pool's, each in random order; usable ones, each once."""
    others = [passage for passage in record.passages if not passage.supporting]
    supporting = [passage for passage in record.passages if passage.supporting]
    taken = {_spaced(passage.text) for passage in (*supporting, *without)}
    titles = {_spaced(passage.title) for passage in supporting if passage.title}
    for passages in (others, pool):
        for index in rng.sample(range(len(passages)), len(passages)):
            passage = passages[index]
            # Another paragraph under a supporting title may state the same fact in other words.
            foreign = passages is others or _spaced(passage.title) not in titles
            if (
                foreign
                and _spaced(passage.text) not in taken
                and not mentions(f"{passage.title} {passage.text}", record.answers)
            ):
                taken.add(_spaced(passage.text))
                yield Passage(passage.title, passage.text)


def _spaced(text: str) -> str:
    """The text with single spaces: what it says, however a file lays it out."""
    return " ".join(text.split())
