"""LongBench and LongBench-E from their official files."""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from evaluation.benchmark import Example
from evaluation.benchmarks.answer_metric import Metric, WithAnswerMetric, with_short_answers
from evaluation.benchmarks.downloads import RemoteFile, github_file, hub_file, prepare_data
from evaluation.benchmarks.official_files import (
    OfficialFileError,
    Row,
    differences,
    hashes,
    read_json,
    read_official_rows,
)
from evaluation.benchmarks.placeholders import check_placeholders
from evaluation.benchmarks.task_names import unknown_tasks
from evaluation.metrics import score
from evaluation.metrics.longbench import BUCKETS, TASKS, bucket, by_bucket, qa_f1, qa_f1_chinese, task_name
from evaluation.prompting import NOT_DOUBLED, READ_AS_CONTROL, Prompt, Rules, build_prompt
from evaluation.reports.grouping import official_parts
from evaluation.reports.intervals import Mean, Means, OfficialNumber, means_of
from evaluation.reports.report import BenchmarkReport, Prediction
from evaluation.reports.table import Section, means_section
from lit_longpo.errors import MissingFileError
from lit_longpo.policy import PromptFormat
from lit_longpo.ranges import MOST_ANSWERED

LAYOUT = "config/dataset2prompt.json, config/dataset2maxlen.json, data/<task>.jsonl"
E_TASKS = (
    *("qasper", "multifieldqa_en", "hotpotqa", "2wikimqa", "gov_report", "multi_news", "trec"),
    *("triviaqa", "samsum", "passage_count", "passage_retrieval_en", "lcc", "repobench-p"),
)
_COUNTS = dict.fromkeys(TASKS, 200) | {"multifieldqa_en": 150, "lcc": 500, "repobench-p": 500}
_E_COUNTS = {f"{task}_e": 300 for task in E_TASKS} | {"qasper_e": 224, "multifieldqa_en_e": 150, "multi_news_e": 294}
_SHORT = frozenset(  # asked about documents, with answers of a few words
    name
    for task, row in TASKS.items()
    if row.category.endswith("document QA") and row.metric in (qa_f1, qa_f1_chinese)
    for name in (task, f"{task}_e")
)
NO_CHAT = frozenset({"trec", "triviaqa", "samsum", "lsht", "lcc", "repobench-p"})
_PROMPTS, _LIMITS = "config/dataset2prompt.json", "config/dataset2maxlen.json"
_OFFICIAL = {  # sha256
    _PROMPTS: "56d22ad4f382169c2b8a11ff4c982a4a1bea096c8152b0f0b85b64686b157c30",
    _LIMITS: "72966b3c0933e214591637fb085798c5e687ebff4ddaab5d99bbc31120532022",
}
CATEGORIES = {"category": ("en", "English"), "category_zh": ("zh", "Chinese")}  # kinds of means: tasks' language
REPOSITORY, COMMIT = "THUDM/LongBench", "2e00731f8d0bff23dc4325161044d0ed8af94c1e"  # of version 2, too
_DATA = ("5e628be450b7e67fb7ae6e201bd6d8f7056f7672", "cb45b11a4133c6bc1d6a44b0f8e701335ff1e543195db1103472e575857f7f64")


class LongBench(WithAnswerMetric):
    """LongBench or, with `extended`, LongBench-E.

    Six tasks are asked without the chat template, and samsum's answer ends at its first newline, as in
    the official script. Its seed has no effect: decoding is greedy. Its chat strings, written for eight
    models of 2023, are the tokenizer's chat template here.

    Args:
        folder: in the official layout: `config/dataset2prompt.json`, `config/dataset2maxlen.json` and
            `data/<task>.jsonl` (`data/<task>_e.jsonl`). `None` downloads (`evaluation.benchmarks.downloads`).
        extended: LongBench-E: 13 tasks, scores by length.
        tasks: which ones; `None` means all that have a data file.
        metric: "official", or "sub_em", "f1", "em" of tasks with short answers; all others are then left out.

    Raises:
        MissingFileError: a file is missing.
        OfficialFileError: a configuration is malformed.
        InputError: an unknown task, or no data at all.
    """

    name = "longbench"
    names = ("longbench_e",)
    tasks: tuple[str, ...] = ()
    protocol = f"{REPOSITORY} {COMMIT[:7]}"
    generates_as_model_does = True
    chat_names = ("chatglm", "longchat", "vicuna", "llama2", "xgen", "internlm")
    notes = (
        "the tokenizer's chat template in place of the official script's own chat strings for eight models, where used",
        NOT_DOUBLED,
        READ_AS_CONTROL,
    )

    def __init__(
        self,
        folder: str | Path | None = None,
        *,
        extended: bool = False,
        tasks: Sequence[str] | None = None,
        metric: Metric = "official",
    ) -> None:
        known = tuple(f"{task}_e" for task in E_TASKS) if extended else tuple(TASKS)
        asked = with_short_answers(metric, known, _SHORT)
        self.metric = metric
        self.folder = prepare_data("longbench", _remote()) if folder is None else Path(folder).expanduser()
        self.extended = extended
        if extended:
            self.name = "longbench_e"
        self._templates = self._config(_PROMPTS, str)
        self._limits = self._config(_LIMITS, int)
        self.tasks = _chosen(tasks, asked, tuple(task for task in asked if self._path(task).is_file()), self.folder)
        self._missing = [task for task in known if task not in self.tasks]

    @property
    def deviations(self) -> tuple[str, ...]:
        """Changed configuration files and tasks that are left out."""
        left_out = (f"tasks left out: {', '.join(self._missing)}",) if self._missing else ()
        return differences(self.folder, _OFFICIAL) + left_out + self.metric_deviations

    @property
    def official_counts(self) -> dict[str, int]:
        """Records of each task in the official files."""
        return _E_COUNTS if self.extended else _COUNTS

    @property
    def settings(self) -> dict[str, object]:
        """The version, and hashes of the configuration files."""
        return {"extended": self.extended, **hashes(self.folder, _OFFICIAL)}

    def official_length(self, window: int) -> int:
        """1000 tokens for every 1024 of the window, without 500: 3500 for 4K, 31500 for 32K; 3500 is the smallest."""
        return 1000 * max(window // 1024, 4) - 500

    def examples(self, task: str) -> Iterator[Example]:
        """Records of a task.

        Raises:
            MissingFileError: no data file.
            OfficialFileError: a record is malformed; the message names file, line and field.
        """
        seen: dict[str, int] = {}
        for row in self._rows(task):
            example = self._example(row, task)
            seen[example.id] = seen.get(example.id, 0) + 1
            yield replace(example, id=f"{example.id}#{seen[example.id]}") if seen[example.id] > 1 else example

    def rules(self, task: str) -> Rules:
        """How a task is asked."""
        name = task_name(task)
        return Rules("longbench", self._limits[name], chat=name not in NO_CHAT, stop_at_newline=name == "samsum")

    def prompt(
        self,
        example: Example,
        prompt_format: PromptFormat,
        max_length: int,
        *,
        window: int | None = None,
        earlier: Sequence[str] = (),
    ) -> Prompt:
        """The filled template, cut in the middle; `earlier` is empty as there is one call."""
        template = self._templates[task_name(example.task)]
        return build_prompt(
            template.format(**example.fields), prompt_format, self.rules(example.task), max_length, window
        )

    def official_score(self, example: Example, prediction: str) -> float:
        """Official score, 0 to 1."""
        return score("longbench", example.task, prediction, example.answers, all_classes=example.all_classes)

    def table(self, predictions: Sequence[Prediction]) -> dict[str, float]:
        """One task's "score", or the scores of LongBench-E's three buckets; percent, two decimals."""
        if not self.extended:
            return super().table(predictions)
        return by_bucket([item.score for item in predictions], [item.length for item in predictions])

    @classmethod
    def means(cls, report: BenchmarkReport) -> dict[str, Means]:
        """Means of "category", and "category_zh" of the Chinese tasks; of LongBench-E those of "bucket".

        Categories without all of their tasks are left out.
        """
        parts = official_parts(report)
        categories = {kind: _categories(parts, language) for kind, (language, _) in CATEGORIES.items()}
        buckets = {name: official_parts(report, name, partial(_is_in, name)) for name in BUCKETS}
        return {**categories, "bucket": means_of(buckets)}

    @classmethod
    def summary(cls, report: BenchmarkReport) -> list[Section]:
        """The paper's categories in each language of which any task was run; LongBench-E's buckets."""
        means, run = cls.means(report), official_parts(report)
        categories = [
            _category_section(means[kind], language, title, run)
            for kind, (language, title) in CATEGORIES.items()
            if run.keys() & language_tasks(language)
        ]
        note = "Plain mean of the tasks that have examples in the bucket."
        buckets = means_section("Buckets of length", "words", means["bucket"], note)
        return [*categories, *([buckets] if buckets.rows else [])]

    def _path(self, task: str) -> Path:
        return self.folder / "data" / f"{task}.jsonl"

    def _config(self, name: str, kind: type) -> dict:
        path = self.folder / name
        values = read_json(path, LAYOUT)
        if not isinstance(values, dict):
            raise OfficialFileError.at(str(path), "file", "a JSON object", values)
        for task in TASKS:
            if type(values.get(task)) is not kind or (kind is int and not 1 <= values[task] <= MOST_ANSWERED):
                raise OfficialFileError.at(
                    str(path), f"field {task!r}", f"{kind.__name__} of the task", values.get(task)
                )
            if kind is str:
                check_placeholders(values[task], f"{path}: field {task!r}")
        return values

    def _rows(self, task: str) -> Iterable[Row]:
        """Records; the last one's class names hold for the whole file of a classification, as in the official loop."""
        rows = read_official_rows(self._path(task), LAYOUT)
        if TASKS[task_name(task)].metric is not None:
            return rows
        records = list(rows)
        classes = records[-1].values.get("all_classes") if records else None
        return [Row(row.where, {**row.values, "all_classes": classes}) for row in records]

    def _example(self, row: Row, task: str) -> Example:
        row.choice("dataset", (task, task_name(task)))
        length = row.count("length")
        fields = {name: row.text(name) for name in ("context", "input")}
        has_classes = TASKS[task_name(task)].metric is None or row.values.get("all_classes") is not None
        return Example(
            id=f"{task}/{row.text('_id')}",
            task=task,
            length=length,
            question=fields["input"],
            answers=row.texts("answers"),
            fields=fields,
            groups={"length": bucket(length)} if self.extended else {},
            all_classes=row.texts("all_classes") if has_classes else None,
        )


def _remote() -> Iterator[RemoteFile]:
    """Templates at the pinned commit, and all data in one archive."""
    for path, sha256 in _OFFICIAL.items():
        yield github_file(REPOSITORY, COMMIT, f"LongBench/{path}", path, sha256)
    revision, sha256 = _DATA
    yield hub_file("THUDM/LongBench", revision, "data.zip", sha256, is_archive=True)


def _chosen(
    tasks: Sequence[str] | None, known: tuple[str, ...], present: tuple[str, ...], folder: Path
) -> tuple[str, ...]:
    if unknown := [task for task in tasks or () if task not in known]:
        raise unknown_tasks(unknown, known)
    if not (tasks or present):
        raise MissingFileError(
            f"expected data/<task>.jsonl, for example data/{known[0]}.jsonl, got none in {folder}; set `folder`"
        )
    return tuple(tasks or present)


def language_tasks(language: str) -> dict[str, str]:
    """Category of each LongBench task of a language, "en" or "zh"."""
    return {name: task.category for name, task in TASKS.items() if language in task.languages}


def _categories(parts: Mapping[str, OfficialNumber], language: str) -> Means:
    """Of the complete categories, and the paper's average if all of them are.

    Many papers report the mean over tasks instead. The code tasks enter both languages.
    """
    members: dict[str, list[str]] = {}
    for name, category in language_tasks(language).items():
        members.setdefault(category, []).append(name)
    means = {
        category: Mean({name: parts[name] for name in names})
        for category, names in members.items()
        if parts.keys() >= set(names)
    }
    if len(means) == len(members):
        weights = {name: 1 / len(members) / len(names) for names in members.values() for name in names}
        means["average"] = Mean({name: parts[name] for name in weights}, weights)
    return means


def _category_section(means: Means, language: str, title: str, run: Collection[str]) -> Section:
    missing = [name for name in language_tasks(language) if name not in run]
    note = "Category: plain mean of its tasks. Average: plain mean of the categories, as in the paper."
    lack = f" Incomplete, so without what needs them, as these tasks were not run: {', '.join(missing)}."
    return means_section(f"Categories, {title}", "category", means, note + lack * bool(missing))


def _is_in(name: str, item: Prediction) -> bool:
    return item.groups.get("length") == name
