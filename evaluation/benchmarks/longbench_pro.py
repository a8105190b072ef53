"""LongBench Pro: 25 tasks in English and Chinese, 8k to 256k tokens. Data: hub caskcsg/LongBench-Pro (Apache-2.0)."""

from collections.abc import Sequence

from evaluation.benchmark import Example
from evaluation.benchmarks.official_files import Row
from evaluation.benchmarks.records import RecordBenchmark
from evaluation.metrics import score
from evaluation.metrics.longbench import total
from evaluation.metrics.longbench_pro import METRICS, SUMMARIES
from evaluation.prompting import Prompt, Rules, build_prompt
from evaluation.reports.report import Prediction
from lit_longpo.policy import PromptFormat
from lit_longpo.ranges import MOST_ANSWERED, check_numbers

_LENGTHS = {f"{number}k": number * 1000 for number in (8, 16, 32, 64, 128, 256)}
_GROUPS = {
    "token_length": tuple(_LENGTHS),
    "contextual_requirement": ("Full", "Partial"),
    "difficulty": ("Easy", "Moderate", "Hard", "Extreme"),
    "language": ("English", "Chinese"),
}
_LONG_WINDOW = 256_000  # positions of the models that official runs cut to 224,000 tokens


class LongBenchPro(RecordBenchmark):
    """1,500 records; the two kinds of summaries (T4) are left out, as their metric takes an embedding model of 8B.

    Args:
        path: `longbench_pro.json`, or JSON Lines or Parquet with the same fields, or a folder.
        thinking: ask for reasoning first (`question_thinking`).
        max_new_tokens: tokens of an answer at most; `None` means the official 1,024, with thinking 32,768.

    Raises:
        MissingFileError: there is no such file.
        InputError: a record is malformed, or none is left.
    """

    name = "longbench_pro"
    protocol = "caskcsg/longcontext 88fbeb8"
    known_tasks = tuple(METRICS)
    num_official = 1500

    def __init__(self, path: str, thinking: bool = False, max_new_tokens: int | None = None) -> None:
        self.thinking = thinking
        usual = 32_768 if thinking else 1024
        self.max_new_tokens = usual if max_new_tokens is None else max_new_tokens
        check_numbers(self, "", max_new_tokens=(1, MOST_ANSWERED))
        super().__init__(path)

    @property
    def deviations(self) -> tuple[str, ...]:
        """One answer instead of three."""
        return (*super().deviations, "one greedy answer where official runs draw three with the model's own settings")

    @property
    def settings(self) -> dict[str, object]:
        """Files, kind of question and limit."""
        return super().settings | {"thinking": self.thinking, "max_new_tokens": self.max_new_tokens}

    def official_length(self, window: int) -> int:
        """120,000 for windows of 128k, 224,000 for those of 256k."""
        return 224_000 if window >= _LONG_WINDOW else 120_000

    def example(self, row: Row, name: str) -> Example:
        """Its secondary task is the task; lengths, requirement, difficulty, language and primary task are groups."""
        task = row.choice("secondary_task", (*self.known_tasks, *SUMMARIES))
        groups = {column: row.choice(column, allowed) for column, allowed in _GROUPS.items()}
        groups["primary_task"] = row.text("primary_task")
        question = row.text("question_thinking" if self.thinking else "question_nonthinking")
        fields = {"context": row.text("context"), "question": question}
        name, length = str(row.values.get("id") or name), _LENGTHS[groups["token_length"]]
        return Example(name, task, length, question, row.texts("answer"), fields, groups)

    def leaves_out(self, example: Example) -> str:
        """Summaries."""
        return "summaries (T4), whose metric takes Qwen3-Embedding-8B" if example.task in SUMMARIES else ""

    def prompt(
        self,
        example: Example,
        prompt_format: PromptFormat,
        max_length: int,
        *,
        window: int | None = None,
        earlier: Sequence[str] = (),
    ) -> Prompt:
        """Context and question as one message, cut in the middle."""
        text = "\n\n\n\n".join((example.fields["context"], example.fields["question"])).strip()
        return build_prompt(text, prompt_format, Rules("longbench_v2", self.max_new_tokens), max_length, window)

    def score(self, example: Example, prediction: str) -> float:
        """The task's metric of the response, which is stripped first."""
        return score(self.name, example.task, prediction.strip(), example.answers)

    def placed(self, prediction: Prediction) -> Prediction:
        """Its length is the record's."""
        return prediction

    def table(self, predictions: Sequence[Prediction]) -> dict[str, float]:
        """Mean score, and that of each length by its official name."""
        means = {"score": total([item.score for item in predictions])}
        for name, length in _LENGTHS.items():
            if items := [item.score for item in predictions if item.length == length]:
                means[name] = total(items)
        return means
