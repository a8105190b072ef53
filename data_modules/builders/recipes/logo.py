"""LOGO's pairs: long context alignment via efficient preference optimization (arXiv 2410.18533), section 3.

Chunks of a document are scored against a question by what they share with it. Preferred: the model's
answer from critical chunks only. Dispreferred: its answers from irrelevant chunks, and from a mix.
The training context holds the critical chunks and some irrelevant ones, in the document's order.

Unlike the authors' scripts, whose first negative comes from the lowest of the *best* chunks, an
irrelevant chunk here shares nothing with the question (at most `max_irrelevant_score`) and does not
mention a gold answer. Chunks are scored against the question alone, as the paper says.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from data_modules.builders.generators.requests import Completion, Decoding, RequestTemplate
from data_modules.builders.recipes.base import DroppedError, Recipe, Steps, Workbench
from data_modules.builders.recipes.chunk_scores import ChunkScorer, WordOverlap
from data_modules.builders.recipes.filters import AnswerFilter, default_filters, first_reason
from data_modules.builders.recipes.questions import ChunkQuestion, QuestionMaker, SelfInstruct
from data_modules.builders.sources.base import Item
from data_modules.builders.sources.chunking import Chunking
from data_modules.qa_sets.contexts import SEPARATOR, join_passages, passage_text
from data_modules.qa_sets.matching import mentions
from data_modules.records import Passage, PreferencePair, QARecord
from lit_longpo.errors import InputError
from lit_longpo.files.plain_text import is_blank
from lit_longpo.ranges import MOST, check_numbers


@dataclass
class LOGORecipe(Recipe):
    """Documents or questions with passages -> one preferred and several dispreferred answers.

    Args:
        chunking: length of the chunks (paper: 512 tokens).
        scorer: what chunk and question have in common.
        num_critical: the best chunks, at most this many.
        min_critical_score: a critical chunk shares at least this much (paper: 6 entities).
        max_irrelevant_score: an irrelevant chunk shares at most this much.
        context_chunks: chunks of the training context (paper: 16).
        num_irrelevant: dispreferred answers from irrelevant chunks.
        num_mixed: dispreferred answers from half of the critical chunks and as many irrelevant ones, at least two.
        questions: asks about a random chunk of a document; questions that exist are taken as they are.
        instruction: placeholder {question}; becomes the pair's question.
        decoding: of the answers (scripts: temperature 0.7, top-p 0.95, 512 tokens).
        attempts: samples drawn for each answer until the filters let one pass.
        filters: answers that may be neither chosen nor rejected; `None` means refusals, repetitions, copies and
            answers without a word.
    """

    chunking: Chunking = field(default_factory=lambda: Chunking(512))
    scorer: ChunkScorer = field(default_factory=WordOverlap)
    num_critical: int = 4
    min_critical_score: int = 2
    max_irrelevant_score: int = 0
    context_chunks: int = 16
    num_irrelevant: int = 1
    num_mixed: int = 1
    questions: QuestionMaker = field(default_factory=SelfInstruct)
    instruction: RequestTemplate = field(default_factory=lambda: RequestTemplate("{question}"))
    decoding: Decoding = field(default_factory=lambda: Decoding(0.7, 0.95, 512))
    attempts: int = 3
    filters: list[AnswerFilter] | None = None

    def __post_init__(self) -> None:
        self.filters = default_filters() if self.filters is None else self.filters
        check_numbers(self, "recipe.init_args.", num_critical=(1, MOST), context_chunks=(1, MOST), attempts=(1, 1000))
        check_numbers(self, "recipe.init_args.", num_irrelevant=(0, 1000), num_mixed=(0, 1000))
        check_numbers(self, "recipe.init_args.", min_critical_score=(0, MOST), max_irrelevant_score=(0, MOST))
        self.instruction.check("recipe.init_args.instruction", {"question"})
        if self.num_irrelevant + self.num_mixed < 1:
            raise InputError(
                f"expected num_irrelevant + num_mixed >= 1, got {self.num_irrelevant} + {self.num_mixed}; raise one"
            )

    def open(self) -> None:
        """See `Recipe`: what scores chunks."""
        self.scorer.open()

    def steps(self, item: Item, bench: Workbench) -> Steps[PreferencePair]:
        """A question if there is none, then all answers together."""
        chunks = [chunk.strip() for chunk in self.chunking.split(_text(item), bench.tokens.count) if chunk.strip()]
        question = yield from self._question(item, chunks, bench)
        critical, irrelevant = self._sort(chunks, question, bench)
        text = self.instruction.render(question=question.text)
        contexts = self._answer_contexts(chunks, critical, irrelevant, bench)
        replies = yield [
            bench.ask(f"answer{number}", context, text, self.decoding, attempt)
            for number, context in enumerate(contexts)
            for attempt in range(self.attempts)
        ]
        chosen, *rejected = self._pick(replies, contexts, bench)
        numbers = sorted({*critical, *irrelevant[: max(0, self.context_chunks - len(critical))]})
        passages = [Passage("", chunks[number], number in critical) for number in numbers]
        long_context, spans = join_passages(passages)
        return PreferencePair(
            id=item.id,
            question=text,
            short_context=contexts[0],
            long_context=long_context,
            chosen=chosen,
            rejected=tuple(rejected),
            answers=question.answers,
            supporting=spans,
        )

    def _question(self, item: Item, chunks: list[str], bench: Workbench) -> Steps[ChunkQuestion]:
        if isinstance(item, QARecord):
            if is_blank(item.question):
                raise DroppedError("the question is empty")
            return ChunkQuestion(item.question, item.answers)
        number = bench.rng("question").randrange(len(chunks))
        return (yield from self.questions.steps(chunks[number], f"chunk{number}", bench))

    def _sort(self, chunks: list[str], question: ChunkQuestion, bench: Workbench) -> tuple[list[int], list[int]]:
        """Numbers of the critical chunks in document order, and of the irrelevant ones in random order."""
        scores = [self.scorer.score(chunk, question.text) for chunk in chunks]
        order = sorted(range(len(chunks)), key=lambda number: -scores[number])
        critical = sorted(n for n in order[: self.num_critical] if scores[n] >= self.min_critical_score)
        if not critical:
            raise DroppedError("no chunk shares min_critical_score with the question")
        irrelevant = [
            n
            for n, chunk in enumerate(chunks)
            if n not in critical and scores[n] <= self.max_irrelevant_score and not mentions(chunk, question.answers)
        ]
        if not irrelevant:
            raise DroppedError("no chunk is irrelevant to the question")
        bench.rng("irrelevant").shuffle(irrelevant)
        return critical, irrelevant

    def _answer_contexts(
        self, chunks: list[str], critical: list[int], irrelevant: list[int], bench: Workbench
    ) -> list[str]:
        """What chosen and each rejected answer are generated from."""
        rng, half = bench.rng("mix"), len(critical) // 2
        sets = [critical]
        for _ in range(self.num_irrelevant):
            sets.append(rng.sample(irrelevant, min(len(critical), len(irrelevant))))
        for _ in range(self.num_mixed):
            # With one critical chunk the mix keeps it, but most of what is read is noise.
            some = rng.sample(critical, max(1, half))
            sets.append([*some, *rng.sample(irrelevant, min(max(2, half), len(irrelevant)))])
        return [join_passages([Passage("", chunks[n]) for n in sorted(numbers)])[0] for numbers in sets]

    def _pick(self, replies: Sequence[Completion], contexts: list[str], bench: Workbench) -> list[str]:
        """One answer from each context, the chosen one first."""
        answers = list[Completion]()
        for number, context in enumerate(contexts):
            attempts = replies[number * self.attempts : (number + 1) * self.attempts]
            usable = [a for a in attempts if first_reason(self.filters or (), a.text, context, bench) is None]
            answers.append(_rejected(usable, answers, bench) if answers else _chosen(usable, bench))
            bench.count_cut_off(answers[-1:])
        return [answer.text for answer in answers]


def _chosen(usable: list[Completion], bench: Workbench) -> Completion:
    """The first attempt that came to its end, if one did."""
    if not usable:
        raise DroppedError("no usable chosen answer")
    chosen = next((attempt for attempt in usable if attempt.finished), usable[0])
    bench.count_chosen(finished=chosen.finished)
    return chosen


def _rejected(usable: list[Completion], answers: list[Completion], bench: Workbench) -> Completion:
    """The first attempt that differs from the chosen answer, and from all others if one does."""
    if not usable:
        raise DroppedError("no usable rejected answer")
    different = [a for a in usable if not bench.says_same(a.text, answers[0].text)]
    if not different:
        raise DroppedError("rejected is always equal to chosen")
    new = [a for a in different if not any(bench.says_same(a.text, other.text) for other in answers)]
    bench.counts["rejected answers that another one is, too"] += not new
    return (new or different)[0]


def _text(item: Item) -> str:
    """What is cut into chunks: the document, or a question's passages."""
    if isinstance(item, QARecord):
        return SEPARATOR.join(map(passage_text, item.passages))
    return item.text
