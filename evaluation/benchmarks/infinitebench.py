"""InfiniteBench from its official files: books, dialogues, code, numbers and passkeys at 100K tokens and more."""

import json
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from string import Formatter
from typing import Literal, get_args

from evaluation.benchmark import Example
from evaluation.benchmarks.answer_metric import Metric, WithAnswerMetric, with_short_answers
from evaluation.benchmarks.official_files import (
    OfficialFileError,
    Row,
    hash_of,
    hashes,
    parse_literals,
    read_json,
    read_rows,
    read_text,
)
from evaluation.benchmarks.task_names import unknown_tasks
from evaluation.metrics import score
from evaluation.metrics.infinitebench import LETTERS, TASKS, References
from evaluation.prompting import Prompt, Rules, Style, build_prompt
from evaluation.reports.grouping import official_parts
from evaluation.reports.intervals import Mean, Means
from evaluation.reports.report import BenchmarkReport
from evaluation.reports.table import Section, means_section
from lit_longpo.errors import InputError, MissingFileError
from lit_longpo.policy import PromptFormat
from lit_longpo.ranges import MOST_ANSWERED

LAYOUT = "<task>.jsonl, for example longbook_qa_eng.jsonl, and prompt.py"
Templates = Literal["gpt4", "yarn_mistral"]
ASKED = tuple(task for task in TASKS if task != "math_calc")  # which is 30,000 new tokens and a dialogue of its own
_PROMPT_FILES = ("prompt.py", "src/prompt.py", "prompts.json")
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
_CALL = re.compile(r"func_[0-9]+\(-?[0-9]+\)")
_WANTED = re.compile(r"The .+ of")


@dataclass(frozen=True)
class Family:
    """How one of the official scripts asks.

    Args:
        digest: sha256 of its templates of all `ASKED`, as JSON with sorted keys and no blanks.
        style: truncation rule.
        length: tokens that longer prompts are cut to.
        chat: models are asked in a chat.
        differences: what is otherwise in that script, in words.
    """

    digest: str
    style: Style
    length: int
    chat: bool
    differences: tuple[str, ...] = ()


FAMILIES: Mapping[Templates, Family] = {
    "gpt4": Family(
        "fb06d76887ce4eaa94e0d56b66a8f52dc9aafe5bfa0954f9dc3a291d1d804184",
        *("longbench_v2", 127_000, True),
        (
            "tokens of the model's own tokenizer, where the official GPT-4 client cuts by GPT-4's",
            "most likely tokens up to the limits of the scripts for local models, where the official GPT-4 client "
            "samples without a limit",
            "no system message, where the official client sends that of a helpful assistant",
        ),
    ),
    "yarn_mistral": Family(
        "60fe9d05a61e7a6fc6be1212d745edab707f88fc51b5102937cf592b4828c0d9", "infinitebench", 131_072, False
    ),
}


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
        FileNotFoundError: a file is missing.
        OfficialFileError: a template is missing or malformed.
        ValueError: no folder, an unknown task or wording, a limit below 1.
    """

    name = "infinitebench"
    tasks: tuple[str, ...] = ()
    protocol = "OpenBMB/InfiniteBench 88b3daa"
    notes = (
        "labels that a file wraps in a list are compared as the official results have them: texts, numbers",
        "a decimal number for a whole one in Math.Find, at which the official scorer fails, is wrong",
        "control tokens that the texts write out are read as such, as in the official scripts",
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
        self._prompts = Path(prompts).expanduser() if prompts is not None else _prompt_file(self.folder)
        self._templates = _read_templates(self._prompts, templates, self.tasks)

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
            every = _read_templates(self._prompts, self.templates, ASKED)
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
        """127,000 tokens of GPT-4, 131,072 of YaRN-Mistral, for which no answer is allowed for."""
        return self.family.length

    def examples(self, task: str) -> Iterator[Example]:
        """Records of a task.

        Raises:
            FileNotFoundError: no data file.
            OfficialFileError: a record is malformed; the message names file, line and field.
        """
        for number, row in enumerate(read_rows(self.folder / f"{task}.jsonl", LAYOUT), 1):
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
        """The filled template, cut in the middle."""
        text = self._templates[example.task].format(**example.fields)
        rules = Rules(self.family.style, self._limits[example.task], chat=self.family.chat)
        return build_prompt(text, prompt_format, rules, max_length, window)

    def official_score(self, example: Example, prediction: str) -> float:
        """Official score, 0 to 1."""
        return score(self.name, example.task, prediction, _label(example))

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


def _prompt_file(folder: Path) -> Path:
    found = next((folder / name for name in _PROMPT_FILES if (folder / name).is_file()), None)
    if found is None:
        raise MissingFileError(
            f"expected InfiniteBench's prompt.py in {folder}, got none; download src/prompt.py of "
            "OpenBMB/InfiniteBench there, or type --benchmark.prompts FILE"
        )
    return found


def _read_templates(path: Path, family: Templates, tasks: Collection[str]) -> dict[str, str]:
    """Templates of some tasks.

    Raises:
        FileNotFoundError: there is no such file.
        OfficialFileError: it lacks one, or one has other fields to fill in.
    """
    name = f"{family}_templates"
    is_python = path.suffix == ".py"
    values = parse_literals(read_text(path, LAYOUT), str(path), (name,)) if is_python else read_json(path, LAYOUT)
    table = values.get(name) if isinstance(values, dict) else None
    if not isinstance(table, dict):
        raise OfficialFileError.at(str(path), name, "templates by task", table)
    for task in tasks:
        _check_template(table.get(task), task, f"{path}: {name}")
    return {task: table[task] for task in tasks}


def _check_template(template: object, task: str, where: str) -> None:
    allowed = {"context", "input", "question", *_ADDED_NAMES.get(task, ())}
    try:
        names = {name for _, name, _, _ in Formatter().parse(str(template)) if name is not None}
    except ValueError:
        names = set()
    if not isinstance(template, str) or "context" not in names or not names <= allowed:
        expected = f"a template with {{context}} and others of {', '.join(sorted(allowed))}"
        raise OfficialFileError.at(where, task, expected, template)


def _example(row: Row, task: str, number: int) -> Example:
    context, asked = row.text("context"), row.optional_text("input") or ""
    fields = {"context": context, "input": asked, "question": asked, **_ADDED.get(task, _nothing)(row)}
    length = len(context) if task.endswith("_chn") else len(context.split())
    return Example(f"{task}/{number}", task, length, asked, _ANSWERS.get(task, _texts)(row), fields)


def _label(example: Example) -> References:
    """The answers as the official results have them."""
    return _LABELS.get(example.task, list)(example.answers)


def _nothing(row: Row) -> dict[str, str]:
    return {}


def _options(row: Row) -> dict[str, str]:
    return {f"OPTION_{letter}": option for letter, option in zip(LETTERS, _four(row), strict=True)}


def _call(row: Row) -> dict[str, str]:
    """The call that is asked for, and its function."""
    found = _CALL.search(row.text("input"))
    if found is None:
        raise row.error("input", "a question with a call like func_1(2)", row.text("input"))
    return {"func_call": found[0], "func": found[0].partition("(")[0]}


def _target(row: Row) -> dict[str, str]:
    """The question put before the list, from "The ... of" in the one behind it."""
    found = _WANTED.search(row.text("input"))
    if found is None:
        raise row.error("input", 'a question with "The ... of"', row.text("input"))
    return {"prefix": f"What is {found[0].lower().removesuffix(' of')} in the following list?"}


_ADDED: Mapping[str, Callable[[Row], dict[str, str]]] = {
    "longbook_choice_eng": _options,
    "code_debug": _options,
    "code_run": _call,
    "math_find": _target,
}
_LETTERED = tuple(f"OPTION_{letter}" for letter in LETTERS)
_ADDED_NAMES = {
    "longbook_choice_eng": _LETTERED,
    "code_debug": _LETTERED,
    "code_run": ("func", "func_call"),
    "math_find": ("prefix",),
}


def _four(row: Row) -> tuple[str, ...]:
    options = row.texts("options")
    if len(options) != len(LETTERS):
        raise row.error("options", "four texts", options)
    return options


def _texts(row: Row) -> tuple[str, ...]:
    """Accepted texts; one may stand without a list."""
    value = row.values.get("answer")
    return (row.text("answer"),) if isinstance(value, str) else row.texts("answer")


def _choice(row: Row) -> tuple[str, ...]:
    """Text and letter of the right option, which is the first that has the text."""
    text, *letter = _texts(row)
    if letter and (len(letter) > 1 or letter[0] not in tuple(LETTERS)):
        raise row.error("answer", "the right option, or [option, letter]", row.values["answer"])
    if not letter and text not in _four(row):
        raise row.error("answer", "one of the options", text)
    return (text, *(letter or LETTERS[_four(row).index(text)]))


def _number(row: Row) -> tuple[str, ...]:
    """A number as JSON; it may stand in a list, or be a text."""
    value = row.values.get("answer")
    value = value[0] if isinstance(value, list) and value else value
    try:
        number = json.loads(value) if isinstance(value, str) else value
    except ValueError:
        number = None
    if isinstance(number, bool) or not isinstance(number, int | float):
        raise row.error("answer", "a number", value)
    return (json.dumps(number),)


def _first(answers: Sequence[str]) -> str:
    return answers[0]


def _as_number(answers: Sequence[str]) -> int | float:
    return json.loads(answers[0])  # type: ignore[no-any-return]


_ANSWERS: Mapping[str, Callable[[Row], tuple[str, ...]]] = {
    "longbook_choice_eng": _choice,
    "code_debug": _choice,
    "code_run": _number,
    "math_find": _number,
}
_LABELS: Mapping[str, Callable[[Sequence[str]], References]] = {
    "passkey": _first,
    "number_string": _first,
    "kv_retrieval": _first,
    "code_run": _as_number,
    "math_find": _as_number,
}
