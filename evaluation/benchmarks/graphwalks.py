"""GraphWalks: nodes at the end of walks through a graph that fills the prompt. Data: hub openai/graphwalks (MIT)."""

from collections.abc import Sequence

from evaluation.benchmark import Example
from evaluation.benchmarks.official_files import Row
from evaluation.benchmarks.records import WholeRecordBenchmark, prompt_end, score_by_length
from evaluation.metrics import score
from evaluation.metrics.graphwalks import flexible_score
from evaluation.metrics.longbench import total
from evaluation.prompting import Prompt, Rules, whole_prompt
from evaluation.reports.report import Prediction
from lit_longpo.policy import PromptFormat

_NEW_TOKENS = 16_384


class GraphWalks(WholeRecordBenchmark):
    """1,150 graphs of up to 1.75 million characters, as a list of edges, with shots and format in the prompt.

    Args:
        path: `graphwalks_128k_and_shorter.parquet`, the longer file, or their folder; JSON Lines with the same fields.
        max_chars: longer prompts are left out; a graph is never cut.
        max_new_tokens: tokens of an answer at most.

    Raises:
        MissingFileError: there is no such file.
        InputError: a record is malformed, or none is left.
    """

    name = "graphwalks"
    protocol = "openai/graphwalks f338bb265735; F1 as lm-evaluation-harness 0.4.13, nodes read inside the brackets"
    known_tasks = ("bfs", "parents")
    num_official = 1150

    def __init__(self, path: str, max_chars: int | None = None, max_new_tokens: int = _NEW_TOKENS) -> None:
        super().__init__(path, max_chars, max_new_tokens)

    def example(self, row: Row, name: str) -> Example:
        """The user's message is the record's `prompt`; a list of no nodes is an answer, too."""
        prompt, task = row.text("prompt"), row.choice("problem_type", self.known_tasks)
        column = "answer_nodes" if "answer_nodes" in row.values else "answer"
        nodes = row.texts(column, may_be_empty=True)
        return Example(name, task, len(prompt), prompt_end(prompt), nodes, {"prompt": prompt})

    def prompt(
        self,
        example: Example,
        prompt_format: PromptFormat,
        max_length: int,
        *,
        window: int | None = None,
        earlier: Sequence[str] = (),
    ) -> Prompt:
        """The record's prompt, whole.

        Raises:
            InputError: it is longer than `max_length`, or prompt and answer than `window`.
        """
        rules = Rules("longbench_v2", self.max_new_tokens)
        return whole_prompt(example.fields["prompt"], prompt_format, rules, max_length, window)

    def score(self, example: Example, prediction: str) -> float:
        """F1 of the nodes that the last line lists."""
        return score(self.name, example.task, prediction, example.answers)

    def table(self, predictions: Sequence[Prediction]) -> dict[str, float]:
        """Mean F1, that of the last line that lists any ("flexible"), and the first by length."""
        flexible = [flexible_score(item.prediction, item.answers) for item in predictions]
        means = {"score": total([item.score for item in predictions]), "flexible": total(flexible)}
        return means | score_by_length(predictions)
