"""LongPO's pairs: short-to-long self-evolving from raw documents (arXiv 2502.13922), section 3.3 and 4.1.

Chunks of a document are short contexts. The model makes a question about each; its answer from the
chunk is chosen, its answer from the whole document is rejected. The turns of one document are one pair.

Where the authors' scripts differ from the paper we follow the paper, or neither:
- their chunker throws away paragraph groups outside a range of lengths, and the "document" is what is
  left; here the chunks are the document;
- their long prompts are cut on the right, question first; here the document is cut in its middle;
- they sample answers at temperature 1, the paper decodes greedily: `answers: paper | code`.
"""

from dataclasses import dataclass, field
from typing import Literal

from data_modules.builders.generators.requests import Completion, Decoding, Request, RequestTemplate
from data_modules.builders.recipes.base import DroppedError, Recipe, Steps, Workbench
from data_modules.builders.recipes.filters import AnswerFilter, default_filters, first_reason
from data_modules.builders.recipes.questions import ChunkQuestion, QuestionMaker, SelfInstruct
from data_modules.builders.sources.base import Document
from data_modules.builders.sources.chunking import Chunking
from data_modules.qa_sets.matching import normalise
from data_modules.records import PreferencePair, Span, Turn
from lit_longpo.errors import InputError
from lit_longpo.ranges import MOST, MOST_ANSWERED, MOST_TOKENS, check_numbers

# name -> (temperature, top_p): the paper's text and the authors' generation scripts disagree.
ANSWER_DECODINGS = {"paper": (0.0, 1.0), "code": (1.0, 1.0)}


@dataclass
class LongPORecipe(Recipe):
    """Documents -> multi-turn pairs: chosen from a chunk, rejected from the whole document.

    Args:
        chunking: length of the chunks (paper: 32768 tokens).
        max_turns: chunks drawn from a document, each a turn (paper: 4).
        min_turns: documents with fewer usable turns are dropped and counted.
        questions: where questions come from.
        instruction: placeholder {question}; becomes the pair's question.
        answers: "paper" decodes greedily, "code" samples at temperature 1 as the authors' scripts do.
        max_new_tokens: of an answer (scripts: 1024).
        long_tokens: tokens of the document at most; longer ones are cut in the middle, and counted.
        min_document_tokens: shorter documents are dropped and counted (paper: 65536).
        filters: turns with such a chosen or rejected answer are left out; `None` means refusals, repetitions, copies
            and answers without a word.
    """

    chunking: Chunking = field(default_factory=lambda: Chunking(32768))
    max_turns: int = 4
    min_turns: int = 1
    questions: QuestionMaker = field(default_factory=SelfInstruct)
    instruction: RequestTemplate = field(default_factory=lambda: RequestTemplate("{question}"))
    answers: Literal["paper", "code"] = "paper"
    max_new_tokens: int = 1024
    long_tokens: int = 131072
    min_document_tokens: int = 0
    filters: list[AnswerFilter] | None = None

    accepts = (Document,)

    def __post_init__(self) -> None:
        self.filters = default_filters() if self.filters is None else self.filters
        check_numbers(
            self, "recipe.init_args.", max_turns=(1, MOST), min_turns=(1, MOST), max_new_tokens=(1, MOST_ANSWERED)
        )
        check_numbers(self, "recipe.init_args.", long_tokens=(1, MOST_TOKENS), min_document_tokens=(0, MOST_TOKENS))
        self.instruction.check("recipe.init_args.instruction", {"question"})
        if self.min_turns > self.max_turns:
            raise InputError(
                f"expected min_turns <= max_turns, got {self.min_turns} and {self.max_turns}; 1 and 4 work"
            )

    def steps(self, item: Document, bench: Workbench) -> Steps[PreferencePair]:
        """Questions, then answers from chunks and document together."""
        if bench.tokens.count(item.text) < self.min_document_tokens:
            raise DroppedError("the document is shorter than min_document_tokens")
        document = bench.tokens.cut_middle(item.text, self.long_tokens)
        bench.counts["documents cut in the middle"] += document != item.text
        # Only what is left of the document can be asked about it.
        chunks = [chunk.strip() for chunk in self.chunking.split(document, bench.tokens.count) if chunk.strip()]
        if len(chunks) < 2:
            raise DroppedError(
                "the document is a single chunk, short and long context would be the same: lower "
                "`recipe.chunking.max_tokens`, or join short documents in one file"
            )
        numbers = sorted(bench.rng("chunks").sample(range(len(chunks)), min(self.max_turns, len(chunks))))
        # All chunks' requests travel together.
        makers = {n: self.questions.steps(chunks[n], f"chunk{n}", bench) for n in numbers}
        questions = _different((yield from in_lockstep(makers, bench)), bench)
        turns = yield from self._answer(document, chunks, questions, bench)
        if len(turns) < self.min_turns:
            raise DroppedError(f"fewer than {self.min_turns} usable turns")
        spans = _where(document, [turn.short_context for turn in turns.values()])
        answers = questions[next(iter(turns))].answers
        return PreferencePair.from_turns(item.id, document, list(turns.values()), answers, spans)

    def _answer(
        self, document: str, chunks: list[str], questions: dict[int, ChunkQuestion], bench: Workbench
    ) -> Steps[dict[int, Turn]]:
        """Turns by number of the chunk, without those that are left out."""
        decoding = Decoding(*ANSWER_DECODINGS[self.answers], self.max_new_tokens)
        texts = {n: self.instruction.render(question=question.text) for n, question in questions.items()}
        if not texts:
            return {}
        short = [bench.ask(f"chunk{n}/chosen", chunks[n], text, decoding) for n, text in texts.items()]
        long = [bench.ask(f"chunk{n}/rejected", document, text, decoding) for n, text in texts.items()]
        replies = yield [*short, *long]
        turns = dict[int, Turn]()
        for (n, text), chosen, rejected in zip(texts.items(), replies, replies[len(short) :], strict=False):
            bench.count_cut_off([chosen, rejected])
            if self._keep(chosen.text, chunks[n], rejected.text, document, bench):
                bench.count_chosen(finished=chosen.finished)
                turns[n] = Turn(text, chunks[n], chosen.text, (rejected.text,))
        return turns

    def _keep(self, chosen: str, chunk: str, rejected: str, document: str, bench: Workbench) -> bool:
        if bench.says_same(chosen, rejected):
            bench.counts["turns whose answers are the same"] += 1
            return False
        reasons = [
            first_reason(self.filters or (), chosen, chunk, bench),
            first_reason(self.filters or (), rejected, document, bench),
        ]
        return not any(reasons)


def _different(questions: dict[int, ChunkQuestion], bench: Workbench) -> dict[int, ChunkQuestion]:
    """Without questions that an earlier chunk has too: asked of the whole document, they have one answer."""
    first = {normalise(questions[number].text): number for number in reversed(questions)}
    kept = {number: questions[number] for number in sorted(first.values())}
    bench.counts["turns with the question of an earlier turn"] += len(questions) - len(kept)
    return kept


def in_lockstep(coroutines: dict[int, Steps[ChunkQuestion]], bench: Workbench) -> Steps[dict[int, ChunkQuestion]]:
    """Run coroutines in lockstep; those that drop out are counted and left out of the result.

    Each round sends every coroutine its answers and asks all their next requests at once. `send(None)` starts one.
    """
    results, replies = dict[int, ChunkQuestion](), dict[int, list[Completion] | None](dict.fromkeys(coroutines))
    while replies:
        waiting = dict[int, list[Request]]()
        for number, reply in replies.items():
            try:
                waiting[number] = coroutines[number].send(reply)  # type: ignore[arg-type]
            except StopIteration as done:
                results[number] = done.value
            except DroppedError as error:
                bench.counts[str(error)] += 1
        if not waiting:
            break
        answers = iter((yield [request for requests in waiting.values() for request in requests]))
        replies = {number: [next(answers) for _ in requests] for number, requests in waiting.items()}
    return dict(sorted(results.items()))


def _where(document: str, chunks: list[str]) -> tuple[Span, ...]:
    """Where the turns' chunks lie in the document; they follow each other."""
    spans, end = list[Span](), 0
    for chunk in chunks:
        start = document.index(chunk, end)
        end = start + len(chunk)
        spans.append((start, end))
    return tuple(spans)
