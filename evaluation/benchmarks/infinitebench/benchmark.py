"""InfiniteBench from its official files: books, dialogues, code, numbers and passkeys at 100K tokens and more."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import get_args

from evaluation.benchmark import Example
from evaluation.benchmarks.answer_metric import Metric, WithAnswerMetric, with_short_answers
from evaluation.benchmarks.infinitebench.records import example_of, official_label
from evaluation.benchmarks.infinitebench.templates import FAMILIES, LAYOUT, Templates, find_prompts, read_templates
from evaluation.benchmarks.official_files import OfficialFileError, hash_of, hashes, read_official_rows
from evaluation.benchmarks.task_names import unknown_tasks
from evaluation.metrics import score
from evaluation.metrics.infinitebench import TASKS
from evaluation.prompting import READ_AS_CONTROL, Prompt, Rules, build_prompt
from evaluation.reports.grouping import official_parts
from evaluation.reports.intervals import Mean, Means
from evaluation.reports.report import BenchmarkReport
from evaluation.reports.table import Section, means_section
from lit_longpo.errors import InputError, MissingFileError
from lit_longpo.policy import PromptFormat
from lit_longpo.ranges import MOST_ANSWERED

ASKED = tuple(task for task in TASKS if task != "math_calc")  # which is 30,000 new tokens and a dialogue of its own
_NEW_TOKENS = {
    "passkey": 6,
    "number_string": 12,
    "kv_retrieval": 50,
    "longbook_sum_eng": 1200,
    "longbook_qa_eng": 40,
    "longbook_choice_eng": 40,
    "longdialogue_qa_eng": 40,
    "longbook_qa_chn": 40,
    "code_debug": 5,
    "code_run": 5,
    "math_find": 3,
}
_SHORT = frozenset(
    {"passkey", "number_string", "kv_retrieval", "longbook_qa_eng", "longdialogue_qa_eng", "longbook_qa_chn"}
)
_LONGPO = ("longbook_sum_eng", "longbook_qa_eng", "longbook_choice_eng")


class InfiniteBench(WithAnswerMetric):
    """InfiniteBench: eleven of its twelve tasks, one file each; Math.Calc has scores and is not asked.

    Args:
        folder: of `<task>.jsonl`, as on the hub (xinrongzhang2022/InfiniteBench).
        prompts: the official `src/prompt.py` (OpenBMB/InfiniteBench), or its dictionaries as JSON; read, never run.
            `None` looks for prompt.py, src/prompt.py and prompts.json in the folder.
        templates: whose wording: "gpt4", questions put to a chat model, or "yarn_mistral", texts to be continued
            without a chat template.
        tasks: which ones, for example `["longbook_qa_eng"]`; `None` means all that have a file.
        metric: "official", or "sub_em", "f1", "em" of tasks with short answers; all others are then left out.
        new_tokens: longer answers of tasks, for example `{"math_find": 32}`; a deviation.

    Raises:
        MissingFileError: a file is missing.
        OfficialFileError: a template is missing or malformed.
        InputError: no folder, an unknown task or wording, a limit below 1.
    """

    name = "infinitebench"
    tasks: tuple[str, ...] = ()
    protocol = "OpenBMB/InfiniteBench 88b3daa"
    notes = (
        "labels that a file wraps in a list are compared as the official results have them: texts, numbers",
        "a decimal number for a whole one in Math.Find, at which the official scorer fails, is wrong",
        READ_AS_CONTROL,
        "En.Dia looks for the first name among the words, so that one of two words is never right, as the official "
        "scorer did at that commit; its later ones take any accepted name that occurs",
    )

    def __init__(
        self,
        folder: str | None = None,
        prompts: str | None = None,
        *,
        templates: Templates = "gpt4",
        tasks: Sequence[str] | None = None,
        new_tokens: Mapping[str, int] | None = None,
        metric: Metric = "official",
    ) -> None:
        asked = with_short_answers(metric, ASKED, _SHORT)
        if templates not in get_args(Templates):
            raise InputError(f"expected templates of {', '.join(get_args(Templates))}, got {templates!r}")
        if folder is None:
            raise InputError(
                f"expected a folder with {LAYOUT}, got none; download the data set xinrongzhang2022/InfiniteBench and "
                "src/prompt.py of OpenBMB/InfiniteBench, and type --benchmark.folder FOLDER"
            )
        self.folder, self.family = Path(folder).expanduser(), FAMILIES[templates]
        self.templates, self.metric = templates, metric
        self.tasks = _chosen(tasks, asked, self.folder)
        self._limits, self._answered = _limits(new_tokens or {}), _chosen(tasks, ASKED, self.folder)
        self._prompts = Path(prompts).expanduser() if prompts is not None else find_prompts(self.folder)
        self._templates = read_templates(self._prompts, templates, self.tasks)

    @property
    def deviations(self) -> tuple[str, ...]:
        """What the official script of these templates does otherwise, other templates and limits, tasks left out."""
        longer = [f"{task} {self._limits[task]}" for task in self.tasks if self._limits[task] != _NEW_TOKENS[task]]
        missing = [task for task in TASKS if task not in self.tasks]
        said = {
            f"{self._prompts.name} has other {self.templates} templates than the official file": self._differs(),
            f"other limits of new tokens than the official ones: {', '.join(longer)}": longer,
            f"tasks left out: {', '.join(missing)}": missing,
        }
        return (*self.family.differences, *(text for text, holds in said.items() if holds), *self.metric_deviations)

    def _differs(self) -> bool:
        """Of all tasks where all are there; of the chosen ones a file may hold no others."""
        try:
            every = read_templates(self._prompts, self.templates, ASKED)
        except OfficialFileError:
            return True
        return hash_of(every) != self.family.digest

    @property
    def official_counts(self) -> dict[str, int]:
        """Records of each task in the official files."""
        return {task: TASKS[task].count for task in self.tasks}

    @property
    def settings(self) -> dict[str, object]:
        """Whose templates, their hash and the limits, whatever the metric: answers are scored by any."""
        limits = {task: self._limits[task] for task in self._answered}
        digest = hashes(self._prompts.parent, [self._prompts.name])
        return {"templates": self.templates, **digest, "new tokens": limits}

    def official_length(self, window: int) -> int:
        """127,000 tokens for GPT-4; 131,072 for YaRN-Mistral, without room for the answer."""
        return self.family.length

    def examples(self, task: str) -> Iterator[Example]:
        """Records of a task.

        Raises:
            MissingFileError: no data file.
            OfficialFileError: a record is malformed; the message names file, line and field.
        """
        for number, row in enumerate(read_official_rows(self.folder / f"{task}.jsonl", LAYOUT), 1):
            yield example_of(row, task, number)

    def prompt(
        self,
        example: Example,
        prompt_format: PromptFormat,
        max_length: int,
        *,
        window: int | None = None,
        earlier: Sequence[str] = (),
    ) -> Prompt:
        """The filled template, cut in the middle."""
        text = self._templates[example.task].format(**example.fields)
        rules = Rules(self.family.style, self._limits[example.task], chat=self.family.chat)
        return build_prompt(text, prompt_format, rules, max_length, window)

    def official_score(self, example: Example, prediction: str) -> float:
        """Official score, 0 to 1."""
        return score(self.name, example.task, prediction, official_label(example))

    @classmethod
    def means(cls, report: BenchmarkReport) -> dict[str, Means]:
        """The "average" of "LongPO": En.Sum, En.QA and En.MC, if all three were run."""
        parts = official_parts(report)
        of_paper = {task: parts[task] for task in _LONGPO if task in parts}
        return {"average": {"LongPO": Mean(of_paper)} if len(of_paper) == len(_LONGPO) else {}}

    @classmethod
    def summary(cls, report: BenchmarkReport) -> list[Section]:
        """Tasks under the paper's names, and averages of papers; InfiniteBench has none of its own."""
        rows = [(TASKS[task].title, f"{part.value:.2f}") for task, part in official_parts(report).items()]
        average = cls.means(report)["average"]
        note = "LongPO's AVG.: plain mean of En.Sum, En.QA and En.MC."
        more = [means_section("Averages of papers", "paper", average, note)] if average else []
        return [Section("By the paper's names", ("task", "score"), rows), *more]


def _chosen(tasks: Sequence[str] | None, asked: tuple[str, ...], folder: Path) -> tuple[str, ...]:
    if unknown := [task for task in tasks or () if task not in asked]:
        raise unknown_tasks(unknown, asked)
    wanted = asked if tasks is None else tuple(tasks)
    present = tuple(task for task in wanted if (folder / f"{task}.jsonl").is_file())
    missing = [task for task in tasks or () if task not in present]
    if missing or not present:
        names = ", ".join(f"{task}.jsonl" for task in missing or ASKED[:1])
        raise MissingFileError(f"expected {names} in {folder}, got no such file; set `folder` to the downloaded data")
    return present


def _limits(longer: Mapping[str, int]) -> dict[str, int]:
    wrong = {task: limit for task, limit in longer.items() if task not in ASKED or not 1 <= limit <= MOST_ANSWERED}
    if wrong:
        raise InputError(
            f"expected `new_tokens` from 1 to {MOST_ANSWERED:,} for {', '.join(ASKED)}, got {wrong}; correct it"
        )
    return {**_NEW_TOKENS, **longer}
