"""LV-Eval from its official files: the same questions at five levels of length."""

from collections.abc import Collection, Iterable, Iterator, Sequence
from pathlib import Path

from evaluation.benchmark import Example
from evaluation.benchmarks.answer_metric import Metric, WithAnswerMetric, with_short_answers
from evaluation.benchmarks.downloads import RemoteFile, github_file, hub_file, prepare_data
from evaluation.benchmarks.lveval.config import LAYOUT, load_config, other_values
from evaluation.benchmarks.official_files import (
    Row,
    differences,
    hashes,
    read_official_rows,
)
from evaluation.metrics import score
from evaluation.metrics.lveval import LEVELS, METRICS, dataset_name
from evaluation.prompting import NOT_DOUBLED, READ_AS_CONTROL, Prompt, Rules, build_prompt
from evaluation.reports.grouping import official_parts
from evaluation.reports.intervals import Means, OfficialNumber, means_of
from evaluation.reports.report import BenchmarkReport
from evaluation.reports.table import Section, means_section, official_cell
from lit_longpo.errors import InputError, MissingFileError
from lit_longpo.policy import PromptFormat

_OFFICIAL = {"config.py": "7c278132c6cd744e3a57dc87947a20d23d66f6928b9b7f37b0d1bf42e43df8e6"}  # sha256
_COMMIT = "63e7ae939bd347c76b2cdb1cebfb216faca26897"
_DATA = "86a3b0e6f2266281d481bcb46a0bda5b511cffb0"
_COUNTS = {  # at every level
    "loogle_SD_mixup": 160,
    "loogle_CR_mixup": 99,
    "loogle_MIR_mixup": 139,
    "hotpotwikiqa_mixup": 124,
    "multifieldqa_en_mixup": 101,
    "multifieldqa_zh_mixup": 133,
    "factrecall_en": 200,
    "factrecall_zh": 200,
    "cmrc_mixup": 200,
    "lic_mixup": 197,
    "dureader_mixup": 176,
}
_ONE_QUESTION = ("factrecall_en", "factrecall_zh")  # of every context; elsewhere a question is asked at every level


class LVEval(WithAnswerMetric):
    """LV-Eval: 11 data sets at 5 levels, one task for each pair.

    Follows the script for local models; its per-model chat strings are the tokenizer's chat template here.

    Args:
        folder: in the official layout: `config.py`, or its content as `config/config.json`, and
            `data/<dataset>_<level>.jsonl`. `None` downloads (`evaluation.benchmarks.downloads`).
        datasets: which ones; `None` means all.
        levels: which ones, for example `["16k", "32k"]`; `None` means all.
        metric: "official", or "sub_em", "f1", "em" of tasks with short answers; all others are then left out.

    Raises:
        MissingFileError: no configuration, or no data file for any chosen task.
        OfficialFileError: the configuration is malformed.
        InputError: an unknown data set or level.
    """

    name = "lveval"
    tasks: tuple[str, ...] = ()
    protocol = "infinigence/LVEval 63e7ae9"
    generates_as_model_does = True
    chat_names = ("chatglm2", "BlueLM", "vicuna", "sft", "llama2", "Llama-2", "LLaMA", "Mistral", "internlm")
    notes = (
        "the tokenizer's chat template in place of the official script's own strings for models it names, where used",
        NOT_DOUBLED,
        READ_AS_CONTROL,
    )

    def __init__(
        self,
        folder: str | Path | None = None,
        *,
        datasets: Sequence[str] | None = None,
        levels: Sequence[str] | None = None,
        metric: Metric = "official",
    ) -> None:
        asked = with_short_answers(metric, tuple(METRICS), METRICS.keys() - {"dureader_mixup"})
        self.metric = metric
        wanted = asked if datasets is None else datasets
        self.folder = prepare_data("lveval", _remote(wanted)) if folder is None else Path(folder).expanduser()
        self.config = load_config(self.folder)
        self.datasets = _subset("datasets", datasets, tuple(item for item in self.config.datasets if item in asked))
        self.levels = _subset("levels", levels, self.config.levels)
        chosen = [f"{dataset}_{level}" for dataset in self.datasets for level in self.levels]
        self.tasks = tuple(task for task in chosen if self._path(task).is_file())
        if not self.tasks:
            raise MissingFileError(
                f"expected data files like data/{chosen[0]}.jsonl, got none in {self.folder}; set `folder`"
            )

    @property
    def deviations(self) -> tuple[str, ...]:
        """A changed configuration and tasks that are left out."""
        is_python = (self.folder / "config.py").is_file()
        changed = differences(self.folder, _OFFICIAL) if is_python else other_values(self.config)
        every = [f"{dataset}_{level}" for dataset in self.config.datasets for level in self.config.levels]
        missing = [task for task in every if task not in self.tasks]
        return (*changed, *([f"tasks left out: {', '.join(missing)}"] if missing else []), *self.metric_deviations)

    @property
    def official_counts(self) -> dict[str, int]:
        """Records of each task in the official files."""
        return {task: _COUNTS[dataset_name(task)] for task in self.tasks}

    @property
    def settings(self) -> dict[str, object]:
        """A hash of the configuration file."""
        return dict(hashes(self.folder, ("config.py", "config/config.json")))

    def drawn_with(self, task: str) -> str:
        """The task's data set, so that all levels, which are compared, ask the same questions."""
        return dataset_name(task)

    def official_length(self, window: int) -> int:
        """The window without 500 tokens, as is advised; of windows below 4096 nothing is said."""
        return max(window, 4096) - 500

    def examples(self, task: str) -> Iterator[Example]:
        """Records of one data set at one level.

        Raises:
            MissingFileError: no data file.
            OfficialFileError: a record is malformed; the message names file, line and field.
        """
        for number, row in enumerate(read_official_rows(self._path(task), LAYOUT), 1):
            yield _example(row, task, number)

    def prompt(
        self,
        example: Example,
        prompt_format: PromptFormat,
        max_length: int,
        *,
        window: int | None = None,
        earlier: Sequence[str] = (),
    ) -> Prompt:
        """The filled template, cut in the middle, always in the chat template if the model has one."""
        dataset = dataset_name(example.task)
        text = self.config.templates[dataset].format(**example.fields)
        return build_prompt(text, prompt_format, Rules("longbench", self.config.limits[dataset]), max_length, window)

    def official_score(self, example: Example, prediction: str) -> float:
        """Official score against the first answer, 0 to 1."""
        return score("lveval", example.task, prediction, example.answers, answer_keywords=example.answer_keywords)

    @classmethod
    def means(cls, report: BenchmarkReport) -> dict[str, Means]:
        """Means of each "level" over data sets and of each "dataset" over levels, of whatever was run."""
        levels: dict[str, dict[str, OfficialNumber]] = {}
        datasets: dict[str, dict[str, OfficialNumber]] = {}
        for task, part in official_parts(report).items():
            name = dataset_name(task)
            level = task.removeprefix(f"{name}_")
            levels.setdefault(level, {})[name] = part
            datasets.setdefault(name, {})[level] = part
        return {"level": means_of(levels), "dataset": means_of(datasets)}

    @classmethod
    def summary(cls, report: BenchmarkReport) -> list[Section]:
        """The official table, and its means."""
        means = cls.means(report)
        levels, datasets = means["level"], means["dataset"]
        rows = [(name, *(official_cell(mean.parts.get(level)) for level in levels)) for name, mean in datasets.items()]
        of_levels = "Plain mean of the data sets." + _lack(levels, METRICS, "Not the leaderboard's")
        of_datasets = "Plain mean of the levels." + _lack(datasets, LEVELS, "Not of all levels")
        return [
            Section("Official table", ("data set", *levels), rows),
            means_section("Levels", "level", levels, of_levels),
            means_section("Data sets", "data set", datasets, of_datasets),
        ]

    def _path(self, task: str) -> Path:
        return self.folder / "data" / f"{task}.jsonl"


def _remote(datasets: Iterable[str]) -> Iterator[RemoteFile]:
    """The configuration at the pinned commit, and an archive of all levels for each data set."""
    for path, sha256 in _OFFICIAL.items():
        yield github_file("infinigence/LVEval", _COMMIT, path, path, sha256)
    for dataset in datasets:
        yield hub_file("Infinigence/LVEval", _DATA, f"{dataset}.zip", None, is_archive=True)


def _subset(name: str, chosen: Sequence[str] | None, known: tuple[str, ...]) -> tuple[str, ...]:
    unknown = [item for item in chosen or () if item not in known]
    if unknown:
        raise InputError(f"expected {name} of {', '.join(known)}, got {', '.join(unknown)}; correct `{name}`")
    return known if chosen is None else tuple(chosen)


def _example(row: Row, task: str, number: int) -> Example:
    fields = {name: row.text(name) for name in ("context", "input")}
    dataset = dataset_name(task)
    return Example(
        id=f"{task}/{number}",
        task=task,
        length=row.count("length"),
        question=fields["input"],
        answers=row.texts("answers"),
        fields=fields,
        groups={"level": task.removeprefix(f"{dataset}_")},
        answer_keywords=row.optional_text("answer_keywords"),
        context="" if dataset in _ONE_QUESTION else f"{dataset}/{fields['input']}",
    )


def _lack(means: Means, wanted: Collection[str], title: str) -> str:
    """A sentence on what each mean lacks, or nothing; those that lack the same are named together."""
    lacking: dict[str, list[str]] = {}
    for name, mean in means.items():
        if missing := ", ".join(part for part in wanted if part not in mean.parts):
            lacking.setdefault(missing, []).append(name)
    clauses = [
        f"{'all' if 1 < len(names) == len(means) else ', '.join(names)} without {missing}"
        for missing, names in lacking.items()
    ]
    return f" {title}, as not everything was run: {'; '.join(clauses)}." if clauses else ""
