"""Questions of one's own: sub-EM, F1 and EM of short answers, by context length and depth."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import astuple, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Literal, get_args

from evaluation.benchmark import Benchmark, Example
from evaluation.benchmarks.pair_questions import Which, questions_of
from evaluation.benchmarks.placeholders import placeholders
from evaluation.benchmarks.questions import Question, QuestionSource, document_by_question, read_questions
from evaluation.benchmarks.records import power_of_two, score_by_length
from evaluation.metrics.answers import ANSWER_SCORES, AnswerScore, best_score, is_short, joins_words
from evaluation.metrics.longbench import total
from evaluation.prompting import Prompt, check_room
from evaluation.reports.report import Prediction
from lit_longpo.errors import InputError
from lit_longpo.policy import PromptFormat
from lit_longpo.policy.prompts.encoded_prompt import EncodedPrompt, Surroundings
from lit_longpo.policy.prompts.prompt_template import check_template
from lit_longpo.ranges import MOST, MOST_ANSWERED, MOST_TOKENS, check_numbers

NAME = "qa"
_AS_IT_IS = "{question}"
_SHOWN = 500  # last characters of a whole message that reports show as its question
_SMALLEST = 128  # tokens of the first length without `lengths`


@dataclass(frozen=True)
class QA(Benchmark):
    """A file of questions, asked in the policy's own template and scored by what its answers share with accepted ones.

    The official numbers are sub-EM (an accepted answer is part of the response, as characters: 12 is in 128), F1 and
    EM, and `score` by length. A prompt's length is its tokens without the chat template, counted as the next of
    `lengths`.

    Args:
        path: of the questions: see `evaluation.benchmarks.questions`.
        questions: where they come from instead.
        context: which context of preference pairs is read, "long" or "short".
        score_by: what an answer is worth: "sub_em", "f1" or "em"; "auto" is "sub_em" where all answers are gold, and
            "f1" where preferred answers stand for them.
        question_template: how the policy's template is given the question, for example
            "Answer with a few words only. {question}".
        max_new_tokens: tokens of an answer at most.
        first: ask the first contexts of the file, with all of their questions, until there are so many questions.
        lengths: tokens up to which a prompt counts as of that length; longer ones and all without are powers of two.
        num_depths: equal parts of a context that depths are rounded to the middle of.

    Raises:
        MissingFileError: there is no file at `path`.
        InputError: it cannot be read; neither or both of `path` and `questions`, a template without {question},
            numbers below 1.
    """

    name = NAME
    tasks = (NAME,)
    protocol = "lit_longpo qa 1; SQuAD's normalisation, characters as tokens in Chinese and Japanese answers"
    whole_contexts = True
    in_own_template = True

    path: str | None = None
    questions: QuestionSource | None = None
    context: Which = "long"
    score_by: Literal["auto", "sub_em", "f1", "em"] = "auto"
    question_template: str = _AS_IT_IS
    max_new_tokens: int = 64
    first: int | None = None
    lengths: Sequence[int] = field(default_factory=tuple)
    num_depths: int = 5

    def __post_init__(self) -> None:
        if (self.path is None) == (self.questions is None):
            raise InputError(
                f"expected either `path` or `questions`, got {self.path!r} and {self.questions!r}; for example "
                "--benchmark.path questions.jsonl"
            )
        if self.score_by not in ("auto", *get_args(AnswerScore)):
            raise InputError(f"expected score_by of auto, {', '.join(ANSWER_SCORES)}, got {self.score_by!r}")
        _check_question_template(self.question_template)
        check_numbers(self, "", max_new_tokens=(1, MOST_ANSWERED), first=(1, MOST_TOKENS), num_depths=(1, MOST))
        check_numbers(self, "", lengths=(1, MOST_TOKENS))
        if list(self.lengths) != sorted(set(self.lengths)):
            raise InputError(f"expected ascending lengths, got {list(self.lengths)}; correct `lengths`")
        if self.path is not None:
            _ = self._all  # what is wrong with the file is said before a model is loaded

    @cached_property
    def _all(self) -> tuple[Question, ...]:
        found = self._read()
        if not any(item.answers for item in found):
            raise InputError(
                f"expected questions with answers in {self._source}, got {len(found)} without any; add `answers`"
            )
        return tuple(found)

    def _read(self) -> list[Question]:
        if self.questions is not None:
            return list(self.questions.questions())
        records = read_questions(str(self.path))
        return records if isinstance(records[0], Question) else questions_of(records, self.context)

    @cached_property
    def _documents(self) -> dict[str, str]:
        """By question: the same rule by which a validation split is held out."""
        return document_by_question(self._all)

    @cached_property
    def asked(self) -> tuple[Question, ...]:
        """The questions with an answer, context by context until there are `first`; the last context may bring more."""
        by_context = dict[str, list[Question]]()
        for item in self._all:
            if item.answers:
                by_context.setdefault(self._documents[item.id] or item.id, []).append(item)
        kept = list[Question]()
        for items in by_context.values():
            if self.first is not None and len(kept) >= self.first:
                break
            kept += items
        return tuple(kept)

    @property
    def metric(self) -> AnswerScore:
        """What `score` counts."""
        if self.score_by != "auto":
            return self.score_by
        return "sub_em" if all(item.is_gold for item in self.asked) else "f1"

    @property
    def score_name(self) -> str:
        """The metric: tables have all of them, whichever it is."""
        return self.metric

    @property
    def deviations(self) -> tuple[str, ...]:
        """Questions that nobody can score, answers that are not gold."""
        missing = sum(not item.answers for item in self._all)
        preferred = sum(not item.is_gold for item in self.asked)
        said = {
            f"{missing} of {len(self._all)} questions have no answers and were not asked": missing,
            f"{preferred} of {len(self.asked)} answers to compare with are preferred ones, not gold": preferred,
        }
        return tuple(text for text, number in said.items() if number)

    @property
    def notes(self) -> tuple[str, ...]:  # type: ignore[override]
        """Which score the means are of, and what a length is."""
        said = [
            f"mean score, intervals and lengths: {self.metric}",
            "a length is the most tokens that its prompts have without the chat template",
        ]
        if joined := sum(any(map(joins_words, item.answers)) for item in self.asked):
            said.append(
                f"{joined} of {len(self.asked)} questions have answers in Thai, Lao, Burmese or Khmer, which join "
                "words: F1 takes what stands between spaces for a word, as SQuAD's script does; see sub_em"
            )
        if short := sum(any(map(is_short, item.answers)) for item in self.asked):
            said.append(
                f"{short} of {len(self.asked)} questions have answers of one or two letters or digits (no, U.S., 5 %): "
                "sub_em takes one letter for a choice, and finds the others inside of words and numbers (no in know); "
                "see em and f1"
            )
        if repeated := len(self.asked) - len({(each.question, each.context, each.around) for each in self.asked}):
            said.append(
                f"{repeated} of {len(self.asked)} questions repeat an earlier one about the same context: each is "
                "asked and counts; give all accepted answers in one record"
            )
        return tuple(said)

    @property
    def settings(self) -> dict[str, object]:
        """What prompts depend on beside the questions."""
        answer = {"question template": self.question_template, "max_new_tokens": self.max_new_tokens}
        return {"questions": Path(self._source).name, "context": self.context, **answer}

    @property
    def identity(self) -> tuple[str, ...]:
        """Its source and its scores as well, without reading them."""
        scored = (self.context, self.score_by, self.first, tuple(self.lengths), self.num_depths)
        return (*super().identity, self._source, *map(str, scored))

    @property
    def _source(self) -> str:
        return str(self.path) if self.path is not None else type(self.questions).__name__

    def examples(self, task: str) -> Iterator[Example]:
        """Questions with an answer; lengths come with the tokenizer, so here they are characters."""
        for item in self.asked:
            fields = {"context": item.context, "question": item.question, "around": json.dumps(astuple(item.around))}
            example = Example(item.id, task, len(item.context), _shown(item), item.answers, fields)
            yield replace(example, depth=self._depth(item.depth), context=self._documents[item.id])

    def prompt(
        self,
        example: Example,
        prompt_format: PromptFormat,
        max_length: int,
        *,
        window: int | None = None,
        earlier: Sequence[str] = (),
    ) -> Prompt:
        """Context and question in the policy's template; only the context is cut, in its middle.

        Raises:
            InputError: the question alone is longer than `max_length`, or prompt and answer than `window`.
        """
        system, *around = json.loads(example.fields["around"])
        history, followup = (tuple((role, text) for role, text in said) for said in around)
        context, question = example.fields["context"], self._worded(example)
        encoded = prompt_format.encode_prompt(context, question, Surroundings(system, history, followup))
        num_tokens = len(encoded.ids) - sum(encoded.format_mask)
        kept = _cut(encoded, num_tokens - max_length, example.id)
        ids, lost = (*encoded.head, *kept, *encoded.tail), len(encoded.context) - len(kept)
        check_room(len(ids), self.max_new_tokens, max_length, window)
        read = prompt_format.decode_whole(kept) if lost else context
        user = read if question is None else prompt_format.template.filled(read, question)[0]
        said = (*([] if system is None else [("system", system)]), *history, ("user", user), *followup)
        return Prompt(
            ids,
            self.max_new_tokens,
            prompt_format.stop_ids,
            num_tokens=num_tokens,
            uses_chat=prompt_format.uses_chat,
            num_lost=lost,
            messages=said,
        )

    def _worded(self, example: Example) -> str | None:
        """The question as the policy's template is given it; `None` if the context is the whole message."""
        question = example.fields["question"]
        if not question and self.question_template != _AS_IT_IS:
            raise InputError(
                f"expected a question apart from its context in record {example.id!r} for `question_template`, got a "
                "whole message; leave the template out, or give the data a `question`"
            )
        return self.question_template.replace("{question}", question) if question else None

    def score(self, example: Example, prediction: str) -> float:
        """The chosen score of the accepted answer that fits best."""
        return best_score(self.metric, prediction, example.answers)

    def placed(self, prediction: Prediction) -> Prediction:
        """Its length in tokens, now that they are counted."""
        return replace(prediction, length=self._length(prediction.num_tokens))

    def table(self, predictions: Sequence[Prediction]) -> dict[str, float]:
        """Sub-EM, F1 and EM of all, then the chosen score by length."""
        names: tuple[AnswerScore, ...] = get_args(AnswerScore)
        scores: dict[str, float] = {
            name: total([best_score(name, item.prediction, item.answers) for item in predictions]) for name in names
        }
        return scores | score_by_length(predictions)

    def _length(self, num_tokens: int) -> int:
        stated = next((length for length in self.lengths if num_tokens <= length), None)
        return stated or max(_SMALLEST, power_of_two(num_tokens))

    def _depth(self, depth: float | None) -> float | None:
        if depth is None:
            return None
        part = min(int(depth * self.num_depths), self.num_depths - 1)
        return round((part + 0.5) / self.num_depths, 4)


def _shown(item: Question) -> str:
    """The question, or how the user's last message ends."""
    said = item.question or next((text for _, text in reversed(item.around.followup)), item.context)
    return said if len(said) <= _SHOWN or item.question else f"... {said[-_SHOWN:]}"


def _cut(encoded: EncodedPrompt, excess: int, name: str) -> tuple[int, ...]:
    """The context without its middle."""
    if excess <= 0:
        return encoded.context
    kept = len(encoded.context) - excess
    if kept < 2:
        raise InputError(
            f"expected max_length with room for the question {name} and some of its context, got {excess} tokens too "
            f"few for a context of {len(encoded.context)}; raise `max_length`"
        )
    tail = kept // 2
    return (*encoded.context[: kept - tail], *encoded.context[len(encoded.context) - tail :])


def _check_question_template(template: str) -> None:
    check_template(template, "question_template")
    if placeholders(template) != {"question"}:
        raise InputError(
            f"expected a question_template with {{question}} and nothing else to fill in, got {template!r:.80}; for "
            "example 'Answer with a few words only. {question}'"
        )
