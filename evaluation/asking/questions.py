"""Questions about one document, with the answers to compare; their prompts are those of `QA`."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

from evaluation.benchmarks.qa import QA
from evaluation.benchmarks.questions import Question
from evaluation.prompting import Prompt
from evaluation.running.settings import default_max_length
from lit_longpo.errors import InputError
from lit_longpo.files.plain_text import is_blank
from lit_longpo.policy import PromptFormat
from lit_longpo.ranges import MOST_ANSWERED, MOST_TOKENS, check_numbers


@dataclass(frozen=True)
class DocumentQuestions:
    """What is asked about a document.

    Args:
        answers: of each question, whose log-probabilities are compared, the right one first; empty for none.
    """

    document: str
    questions: tuple[str, ...]
    answers: tuple[tuple[str, ...], ...] = ()

    def __post_init__(self) -> None:
        if not self.questions or any(map(is_blank, self.questions)):
            raise InputError(f'expected questions, got {list(self.questions)}; type --question "What is ...?"')
        if self.answers and len(self.answers) != len(self.questions):
            raise InputError(
                f"expected answers for each of {len(self.questions)} questions, got {len(self.answers)} lists of them; "
                "type --answers RIGHT OTHER ... once behind each --question"
            )
        if any(not texts or any(map(is_blank, texts)) for texts in self.answers):
            raise InputError(f"expected answers that are not empty, got {list(map(list, self.answers))}; correct them")
        twice = [texts for texts in self.answers if len(set(texts)) < len(texts)]
        if twice:
            raise InputError(f"expected different answers to a question, got {list(twice[0])}; name each once")

    def of(self, number: int) -> tuple[str, ...]:
        """Answers to one question."""
        return self.answers[number] if self.answers else ()


@dataclass(frozen=True)
class PromptRules:
    """How questions become prompts, as in `evaluate`.

    Args:
        question_template: how the model's template is given the question.
        max_new_tokens: tokens of an answer at most.
        max_length: tokens of a prompt without chat template, longer ones cut in the middle of the document; `None`
            means what the window leaves, by the rule of `evaluate`.
        on_overlength: what becomes of documents that are too long: "truncate" or "error".
    """

    question_template: str = "{question}"
    max_new_tokens: int = 64
    max_length: int | None = None
    on_overlength: str = "truncate"

    def __post_init__(self) -> None:
        check_numbers(self, "", max_new_tokens=(1, MOST_ANSWERED), max_length=(1, MOST_TOKENS))

    def prompts(self, asked: DocumentQuestions, prompt_format: PromptFormat, window: int | None) -> list[Prompt]:
        """A prompt for each question.

        Raises:
            InputError: a prompt and its answer do not fit the window, or would have to be cut and may not.
        """
        benchmark = self._benchmark(asked)
        length = self.max_length or default_max_length(benchmark, benchmark.tasks, prompt_format, window)
        examples = benchmark.examples(benchmark.name)
        prompts = [benchmark.prompt(item, prompt_format, length, window=window) for item in examples]
        longest = max(prompts, key=lambda prompt: prompt.num_lost)
        if longest.num_lost and self.on_overlength == "error":
            raise InputError(
                f"expected document and question of at most {length:,} tokens, got {longest.num_tokens:,}; type "
                "--on_overlength truncate to cut the document in the middle, or name a shorter one"
            )
        return prompts

    def _benchmark(self, asked: DocumentQuestions) -> QA:
        return _QuestionsAlone(
            questions=_Listed(asked), question_template=self.question_template, max_new_tokens=self.max_new_tokens
        )


@dataclass(frozen=True)
class _Listed:
    """A source of questions for `QA`."""

    asked: DocumentQuestions

    def questions(self) -> Sequence[Question]:
        texts = enumerate(self.asked.questions, 1)
        return [Question(str(number), text, self.asked.of(number - 1), self.asked.document) for number, text in texts]


class _QuestionsAlone(QA):
    """Asked whether or not anybody knows an answer: nothing is scored."""

    @cached_property
    def _all(self) -> tuple[Question, ...]:
        return tuple(self._read())

    @cached_property
    def asked(self) -> tuple[Question, ...]:
        """All of them."""
        return self._all


def unknown_tokens(prompts: Sequence[Prompt], prompt_format: PromptFormat) -> Iterator[str]:
    """A warning about text that the tokenizer does not know; empty if it knows all.

    Raises:
        InputError: it is more than a quarter: the model cannot read this language.
    """
    number = prompt_format.unknown_id
    lost = 0 if number is None else max(prompt.ids.count(number) / len(prompt.ids) for prompt in prompts)
    if lost > _MAX_UNKNOWN:
        raise InputError(
            f"expected a document that the model's tokenizer knows, got {lost:.0%} unknown tokens; set --model to a "
            "model for this text (the embedded one knows the words of its made-up world only)"
        )
    if lost:
        yield f"{lost:.0%} of the prompt's tokens are unknown to the tokenizer: the model cannot read them"


_MAX_UNKNOWN = 0.25  # as in training
