"""Questions about a chunk: asked of a model (self-instruct), or cut out of the text."""

import re
from abc import ABC, abstractmethod
from dataclasses import dataclass, field

from data_modules.builders.generators.requests import Decoding, RequestTemplate
from data_modules.builders.recipes.base import DroppedError, Steps, Workbench
from lit_longpo.errors import InputError
from lit_longpo.policy.prompts.thoughts import without_thoughts
from lit_longpo.ranges import MOST, check_numbers

# What stands behind a number, full-width too. 3.14 and 12:30 are no items; of 1.2019 (no space in Chinese) 2019 is one.
_AFTER = r"(?:[.:](?!\d{1,2}(?!\d))|[)\]\u3001\uff0e\uff09\uff1a])"
_HANZI = "\u4e00\u4e8c\u4e09\u56db\u4e94\u516d\u4e03\u516b\u4e5d\u5341"  # 1 to 10
# What Markdown writes around a number is none of it: "1\\.", "#1", "> 1." and keycaps.
_NUMBER = (
    rf"(?:[(\[\uff08]?(?:#?\d{{1,2}}|(?:[Qq](?:uestion)?|\u95ee\u9898)\s*\d{{0,2}}|[{_HANZI}]{{1,2}})\s*\\?{_AFTER}"
    r"|[#Qq]?\d{1,2}\s*[-\u2013\u2014](?=\s)|#\d{1,2}(?=\s)|\d\ufe0f?\u20e3|[\u2460-\u2473])"
)
_LETTER = r"\(?(?:[a-h]|[ivx]{1,4})[).]"
_ITEM = re.compile(rf"^[\s>]*(?:{_NUMBER}|{_LETTER}|[-*\u2022\u30fb])\s*(?:\[[ xX]?\]\s*)?(\S.*)$")
_NUMBERED = re.compile(rf"[*_\s>]*{_NUMBER}(?!\d)")
_MARKS = "?\uff1f\u061f"
_ASKS = re.compile(rf"[{_MARKS}][*_\"'\u201d\s]*$")
_ON_ONE_LINE = re.compile(  # "1. Who? 2. Why?"; what begins with 1 anew, or asks nothing, are choices or an answer
    rf"([{_MARKS}][*_\"'\u201d]*)\s*(?=[*_]*(?:[2-9]|\d\d)(?:[.)]\s|[\u3001\uff0e\uff09])[^{_MARKS}\n]*[{_MARKS}])"
)
# Behind its last question mark: an answer, or words that the question can do without; in small letters it goes on.
_BEHIND = re.compile(
    rf"(?<![Tt]rue or [Ff]alse)([{_MARKS}][*_\"'\u201d\u2019]*)\s*[^{_MARKS}a-z\s*_\"'\u201d\u2019,;][^{_MARKS}]*$"
)
_SENTENCE = re.compile(r"[^\s.!?](?:[^.!?]|(?<=\d)\.(?=\d))*(?:[.!?]|$)")


@dataclass(frozen=True)
class ChunkQuestion:
    """A question about a chunk, or about passages that have one.

    Args:
        answers: accepted answers, if they are known; else empty.
    """

    text: str
    answers: tuple[str, ...] = ()


class QuestionMaker(ABC):
    """Makes one question about a chunk."""

    @abstractmethod
    def steps(self, chunk: str, name: str, bench: Workbench) -> Steps[ChunkQuestion]:
        """Coroutine that yields requests and returns the question.

        Raises:
            DroppedError: the chunk gives no question.
        """


@dataclass
class SelfInstruct(QuestionMaker):
    """The model writes several questions, one is drawn (LongPO: temperature 0.7, top-p 0.9).

    Every question that can be read is kept: a chunk whose model wrote three instead of four questions
    still counts.

    Args:
        prompt: placeholders {context} and {count}.
        count: questions asked for.
        decoding: of the questions.
    """

    prompt: RequestTemplate = field(
        default_factory=lambda: RequestTemplate(
            "{context}\n\nWrite {count} different questions that can be answered from the text above alone. "
            "Put each on a line of its own and number them 1 to {count}."
        )
    )
    count: int = 4
    decoding: Decoding = field(default_factory=lambda: Decoding(0.7, 0.9, 192))

    def __post_init__(self) -> None:
        self.prompt.check("questions.init_args.prompt", {"context", "count"})
        check_numbers(self, "questions.init_args.", count=(1, 1000))

    def steps(self, chunk: str, name: str, bench: Workbench) -> Steps[ChunkQuestion]:
        """One request."""
        stand_in = f"1. What is said of {' '.join(chunk.split()[:12])}?"
        fields = {"context": chunk, "count": str(self.count)}
        (reply,) = yield [bench.request(f"{name}/question", self.prompt, self.decoding, fields, stand_in=stand_in)]
        questions = parse_questions(bench.said(reply.text))
        if questions and not reply.finished:
            bench.counts["questions cut off at max_new_tokens"] += 1
            questions.pop()
        if not questions:
            raise DroppedError("no question could be read in the model's list")
        return ChunkQuestion(bench.rng(name).choice(questions))


@dataclass
class Cloze(QuestionMaker):
    """A sentence of the chunk to complete; needs no model, and its answer is known.

    Args:
        min_words: of the sentences.
        answer_words: words at a sentence's end that are asked for.
        prompt: placeholder {sentence}, the sentence without its end.
    """

    min_words: int = 3
    answer_words: int = 1
    prompt: RequestTemplate = field(default_factory=lambda: RequestTemplate("Complete: {sentence}"))

    def __post_init__(self) -> None:
        self.prompt.check("questions.init_args.prompt", {"sentence"})
        check_numbers(self, "questions.init_args.", min_words=(1, MOST), answer_words=(1, MOST))
        if self.answer_words >= self.min_words:
            raise InputError(
                f"expected answer_words < min_words, got {self.answer_words} and {self.min_words}; 1 and 3 work"
            )

    def steps(self, chunk: str, name: str, bench: Workbench) -> Steps[ChunkQuestion]:
        """No request."""
        yield from ()
        sentences = [match.group().rstrip(".!? \n").split() for match in _SENTENCE.finditer(chunk)]
        sentences = [words for words in sentences if len(words) >= self.min_words]
        if not sentences:
            raise DroppedError(f"no sentence of {self.min_words} words in the chunk")
        words = bench.rng(name).choice(sentences)
        sentence, answer = " ".join(words[: -self.answer_words]), " ".join(words[-self.answer_words :])
        return ChunkQuestion(self.prompt.render(sentence=sentence), (answer,))


def parse_questions(text: str) -> list[str]:
    """The items of a numbered or bulleted list; without one, the lines that end in a question mark.

    Each once, in order, surrounding quotation and emphasis marks and repeated numbers removed. Lines that end in a
    colon are headings; what a model thinks of first is not asked, nor are its answers: what stands behind the question
    mark of an item, and bullets without one beneath numbered questions.
    """
    said = _ON_ONE_LINE.sub(r"\1\n", without_thoughts(text))
    lines = _unwrapped([line.strip() for line in said.splitlines()])
    listed = [_BEHIND.sub(r"\1", line) for line in lines if _ITEM.match(line)]
    items = [_item(line) for line in _of_one_kind(listed)]
    items = items or [line for line in lines if line.endswith(tuple(_MARKS))]
    cleaned = (item.strip().strip("*_\"'\u201c\u201d").strip() for item in items)
    questions = (item for item in cleaned if not item.endswith((":", "\uff1a")))
    return list(dict.fromkeys(item for item in questions if any(mark.isalpha() for mark in item)))


def _unwrapped(lines: list[str]) -> list[str]:
    """The lines, with an item the next one that goes on in small letters."""
    whole = list[str]()
    for line in lines:
        cut = bool(whole) and _ITEM.match(whole[-1]) and whole[-1][-1].isalnum()
        if cut and line[:1].islower() and not _ITEM.match(line):
            whole[-1] += f" {line}"
        else:
            whole.append(line)
    return whole


def _of_one_kind(items: list[str]) -> list[str]:
    """Of a list that numbers its questions the numbered items and others that ask; else all."""
    numbered = list(filter(_NUMBERED.match, items))
    asked = any(map(_ASKS.search, numbered))
    return [line for line in items if line in numbered or _ASKS.search(line)] if asked else items


def _item(line: str) -> str:
    """The text of a list's item; some models number twice."""
    while match := _ITEM.match(line):
        line = match.group(1)
    return line
