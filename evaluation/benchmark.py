"""What every benchmark asks: examples, their prompts and scores."""

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
        context: name of what it is about, equal where examples share a context. If it is empty, the text that the
            field "context" holds says so, and without any the example stands alone.
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
        """What tells its context from others': intervals draw contexts, not examples."""
        text = self.context or self.fields.get("context")
        return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()[:16] if text else self.id

    def answered(self, prediction: str, score: float) -> Prediction:
        """The row of the report."""
        return Prediction(
            *(self.id, self.length, self.depth, self.question, self.answers, prediction, score),
            task=self.task,
            groups=self.groups,
            context=self.context_key,
        )


class Benchmark(ReportRules, ABC):
    """A benchmark, its means and the tables of its reports; a published one is a subclass in one file.

    A subclass gives `name` and `tasks`, and says what it asks (`examples`), how (`prompt`) and what an answer is
    worth (`score`). All else has defaults. Whoever runs it generates and keeps the predictions: for every example
    `num_calls` times ask `prompt`, giving the responses so far as `earlier`, and generate. The last response is
    scored, or the first empty one, which ends the example. Responses come from `evaluation.prompting.decode`, which
    does not strip them: leading white space counts. `counts`, `means` and `summary` are the rules of its reports.

    Attributes:
        name: of the report and in TensorBoard.
        tasks: what `examples` can be asked for.
        protocol: whose rules are followed: repository and commit.
        num_calls: generations for each example.
        notes: what always holds, in words; part of every report's head.
        whole_contexts: a limited run takes contexts with all of their questions.
        generates_as_model_does: the official script answers through transformers, with the model's generation settings.
        in_own_template: contexts and questions are put into the policy's own `template.user`.
        fills_length: contexts are made for lengths that count the answer, so that nothing of the window is kept free.
        begins_answers: prompts end in first words of the answer.
        chat_names: parts of the names of models for which that script has a chat string of its own.
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
        """What is not official about this copy, in words: nothing."""
        return ()

    def drawn_with(self, task: str) -> str:
        """What seeds the choice and the order of a task's examples; tasks of one such name draw the same contexts.

        Args:
            task: whose examples are asked in part, by `limit` or `max_minutes`.
        """
        return task

    def official_length(self, window: int) -> int | None:
        """Tokens that the official run cuts longer prompts of a model with this window to; `None` if it does not say.

        Args:
            window: positions that the model can read.
        """
        return None

    @property
    def settings(self) -> Mapping[str, object]:
        """What prompts depend on beside records and model: options, hashes of template files. Nothing."""
        return {}

    @property
    def official_counts(self) -> Mapping[str, int]:
        """Records of each task in the official files, where that is known; fewer become a deviation."""
        return {}

    @property
    def identity(self) -> tuple[str, ...]:
        """What tells it apart from others of its name: the state of a callback belongs to one of them."""
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
        """What the model reads, cut to `max_length` tokens before the chat template."""

    @abstractmethod
    def score(self, example: Example, prediction: str) -> float:
        """Official score of one response, 0 to 1."""

    def placed(self, prediction: Prediction) -> Prediction:
        """A prediction once its tokens are counted; a length that takes a tokenizer is set here."""
        return prediction

    def table(self, predictions: Sequence[Prediction]) -> dict[str, float]:
        """Official numbers of one task, in percent and rounded, by the column's name: "score", their plain mean.

        Args:
            predictions: scored ones of the task that count, in the official order.
        """
        return {"score": total([item.score for item in predictions])}
