"""The interface of every benchmark: its examples, their prompts and scores."""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from evaluation.metrics.longbench import total
from evaluation.prompting import Prompt
from evaluation.reports.report import Prediction, ReportRules
from lit_longpo.policy import PromptFormat


@dataclass(frozen=True)
class Example:
    """One question of a benchmark, before any token exists.

    Args:
        id: unique in the benchmark.
        task: file it belongs to, for example "hotpotqa" or "cmrc_mixup_16k".
        length: size of its context, in the benchmark's own unit.
        question: what is asked.
        answers: accepted answers; a letter in LongBench v2.
        fields: texts that the prompt template fills in.
        groups: what scores are broken down by, for example `{"difficulty": "hard"}`.
        all_classes: class names of a classification.
        answer_keywords: LV-Eval's keywords.
        depth: relative position of the needed facts, 0 to 1; `None` if it has none, as real texts.
        context: name of what the example is about, equal for examples that share a context. If empty, examples with
            the same text in the field "context" share it; an example without that field stands alone.
    """

    id: str
    task: str
    length: int
    question: str
    answers: tuple[str, ...]
    fields: Mapping[str, str]
    groups: Mapping[str, str] = field(default_factory=dict)
    all_classes: tuple[str, ...] | None = None
    answer_keywords: str | None = None
    depth: float | None = None
    context: str = ""

    @property
    def context_key(self) -> str:
        """A key that examples about the same context share; intervals draw contexts, not examples."""
        text = self.context or self.fields.get("context")
        return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()[:16] if text else self.id

    def answered(self, prediction: str, score: float) -> Prediction:
        """The example as a scored row of the report."""
        return Prediction(
            *(self.id, self.length, self.depth, self.question, self.answers, prediction, score),
            task=self.task,
            groups=self.groups,
            context=self.context_key,
        )


class Benchmark(ReportRules, ABC):
    """A benchmark, its means and the tables of its reports; a published one is a subclass in one file.

    A subclass gives `name` and `tasks`, and defines what is asked (`examples`), how (`prompt`), and the score of an
    answer (`score`). Everything else has defaults. The runner generates and stores the responses. For every example it
    calls `prompt` `num_calls` times, with the responses so far as `earlier`, and generates. The last response is
    scored, or the first empty one, which ends the example. Responses are not stripped: leading white space counts.
    `counts`, `means` and `summary` are the rules of the benchmark's reports.

    Attributes:
        name: name of the report, also in TensorBoard.
        tasks: the tasks that `examples` knows.
        protocol: the rules that are followed: repository and commit.
        num_calls: generations per example.
        notes: sentences for the head of every report.
        whole_contexts: whether a limited run takes contexts with all of their questions.
        generates_as_model_does: whether the official script generates through transformers, with the model's own
            generation settings.
        in_own_template: whether contexts and questions are put into the policy's own `template.user`.
        fills_length: whether the lengths of contexts include the answer, so that no room is kept for it.
        begins_answers: whether prompts end in the first words of the answer.
        chat_names: parts of model names for which the official script has a chat format of its own.
    """

    name: str
    tasks: tuple[str, ...]
    protocol: str = ""
    num_calls: int = 1
    notes: tuple[str, ...] = ()
    whole_contexts: bool = False
    generates_as_model_does: bool = False
    in_own_template: bool = False
    fills_length: bool = False
    begins_answers: bool = False
    chat_names: tuple[str, ...] = ()

    @property
    def deviations(self) -> tuple[str, ...]:
        """How this copy deviates from the official benchmark, in words; by default not at all."""
        return ()

    @property
    def score_name(self) -> str:
        """What `score` counts, where that can be chosen: reports of others cannot be compared; by default empty."""
        return ""

    def drawn_with(self, task: str) -> str:
        """The name that seeds choice and order of a task's examples; tasks with the same name draw the same contexts.

        Args:
            task: whose examples are asked in part, by `limit` or `max_minutes`.
        """
        return task

    def official_length(self, window: int) -> int | None:
        """Tokens to which the official run cuts the prompts of a model with this window; `None` if it does not say."""
        return None

    @property
    def settings(self) -> Mapping[str, object]:
        """What prompts depend on beside records and model (options, hashes of template files); by default nothing."""
        return {}

    @property
    def official_counts(self) -> Mapping[str, int]:
        """Number of records of each task in the official files, if known; fewer are reported as a deviation."""
        return {}

    @property
    def identity(self) -> tuple[str, ...]:
        """What distinguishes it from other benchmarks of its name, so that callbacks keep separate states."""
        return (*self.tasks, str(self.settings))

    @abstractmethod
    def examples(self, task: str) -> Iterator[Example]:
        """Examples of a task, in the file's order."""

    @abstractmethod
    def prompt(
        self,
        example: Example,
        prompt_format: PromptFormat,
        max_length: int,
        *,
        window: int | None = None,
        earlier: Sequence[str] = (),
    ) -> Prompt:
        """The prompt of one call, its text cut to `max_length` tokens before the chat template is applied.

        Args:
            example: what is asked.
            prompt_format: tokenizer and chat template.
            max_length: tokens of the text at most.
            window: positions that the model can read; `None` if not known.
            earlier: responses of the calls before.
        """

    @abstractmethod
    def score(self, example: Example, prediction: str) -> float:
        """Official score of one response, 0 to 1."""

    def placed(self, prediction: Prediction) -> Prediction:
        """The prediction with its final length, for benchmarks whose lengths are counted by the tokenizer."""
        return prediction

    def table(self, predictions: Sequence[Prediction]) -> dict[str, float]:
        """Official numbers of one task by column, in percent and rounded; by default the plain mean as "score".

        Args:
            predictions: the task's scored predictions that count, in the official order.
        """
        return {"score": total([item.score for item in predictions])}
