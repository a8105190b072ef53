"""LongBench v2 from its official files: zero-shot, chain of thought, without the context."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal, get_args

from evaluation.benchmark import Benchmark, Example
from evaluation.benchmarks.downloads import RemoteFile, github_file, hub_file, prepare_data
from evaluation.benchmarks.longbench import COMMIT, REPOSITORY
from evaluation.benchmarks.official_files import (
    OfficialFileError,
    Row,
    differences,
    hashes,
    read_official_rows,
    read_text,
)
from evaluation.metrics import longbench_v2, score
from evaluation.metrics.longbench_v2 import LETTERS
from evaluation.prompting import Prompt, Rules, build_prompt
from evaluation.reports.report import Prediction
from lit_longpo.errors import InputError
from lit_longpo.policy import PromptFormat

LAYOUT = "data.json or data.jsonl, prompts/0shot.txt, ..."
Mode = Literal["zero_shot", "chain_of_thought", "no_context"]
_FIELDS = {
    "$DOC$": "context",
    "$Q$": "question",
    "$C_A$": "choice_A",
    "$C_B$": "choice_B",
    "$C_C$": "choice_C",
    "$C_D$": "choice_D",
}  # in the order in which they are filled in
_REASONING = "$COT$"
_ANSWER_TOKENS, _REASONING_TOKENS = 128, 1024
_TEMPLATES: dict[Mode, tuple[str, ...]] = {
    "zero_shot": ("prompts/0shot.txt",),
    "chain_of_thought": ("prompts/0shot_cot.txt", "prompts/0shot_cot_ans.txt"),
    "no_context": ("prompts/0shot_no_context.txt",),
}
_OFFICIAL = {  # sha256
    "prompts/0shot.txt": "68a162252bc9ff71d5d7abca3d69bb31aac3c35f832d657a2866f2018b8a6950",
    "prompts/0shot_cot.txt": "6cc33d92fd8f611662b756c1f10f302c541ca005b58c46d5f3188ac3a939bfe8",
    "prompts/0shot_cot_ans.txt": "85ec59df4ac0e27aabbc619a7ca5cf3ae1787dd5a76cf51a18944eb52c91955f",
    "prompts/0shot_no_context.txt": "125fb44183af01ffc623df19392b80a287db62af3e2a2805e5b2ff9c7b2bee30",
}
_DATA = ("2b48e494f2c7a2f0af81aae178e05c7e1dde0fe9", "15d61c22d92c96900b3c4948b6aeea218d3214b676a65df48e7b8555604c7fe2")


class LongBenchV2(Benchmark):
    """LongBench v2's 503 four-choice questions.

    "chain_of_thought" makes two calls: up to 1024 tokens of reasoning, then a prompt without the
    document but with that reasoning. "no_context" measures what was memorised. Official answers are drawn
    at temperature 0.1; a run with greedy decoding deviates, and says so.

    Args:
        folder: in the official layout: `data.json` (a list) or `data.jsonl`, and `prompts/*.txt`.
            `None` downloads (`evaluation.benchmarks.downloads`).
        mode: "zero_shot", "chain_of_thought" or "no_context".

    Raises:
        MissingFileError: a file is missing.
        OfficialFileError: a template lacks a placeholder.
        InputError: an unknown mode.
    """

    name = "longbench_v2"
    protocol = f"{REPOSITORY} {COMMIT[:7]}"
    tasks = ("longbench_v2",)
    official_counts = {"longbench_v2": 503}
    left_out = "empty responses are left out of every mean, as in the official script"
    notes = ("control tokens that the texts write out are read as such, as by the official client's server",)

    def __init__(self, folder: str | Path | None = None, *, mode: Mode = "zero_shot") -> None:
        if mode not in get_args(Mode):
            raise InputError(f"expected a mode of {', '.join(get_args(Mode))}, got {mode!r}; correct `mode`")
        self.folder = prepare_data("longbench_v2", _remote()) if folder is None else Path(folder).expanduser()
        self.mode = mode
        names = _TEMPLATES[mode]
        self.num_calls = len(names)
        self._templates = [self._template(number, name) for number, name in enumerate(names)]

    @property
    def deviations(self) -> tuple[str, ...]:
        """Changed prompt files, and greedy decoding."""
        official = {name: _OFFICIAL[name] for name in _TEMPLATES[self.mode]}
        return (*differences(self.folder, official), "greedy decoding where the official client uses temperature 0.1")

    @property
    def settings(self) -> dict[str, object]:
        """The mode, and hashes of its prompt files."""
        return {"mode": self.mode, **hashes(self.folder, _TEMPLATES[self.mode])}

    def official_length(self, window: int) -> int:
        """120,000 for every open model, with windows of 128K."""
        return 120_000

    def examples(self, task: str = "longbench_v2") -> Iterator[Example]:
        """All records.

        Raises:
            MissingFileError: no data file.
            OfficialFileError: a record is malformed; the message names file, line and field.
        """
        as_list = self.folder / "data.json"
        path = as_list if as_list.is_file() else self.folder / "data.jsonl"
        return map(_example, read_official_rows(path, LAYOUT))

    def prompt(
        self,
        example: Example,
        prompt_format: PromptFormat,
        max_length: int,
        *,
        window: int | None = None,
        earlier: Sequence[str] = (),
    ) -> Prompt:
        """The filled template of the next call, cut in the middle.

        Placeholders are filled in one after the other, so one inside the context is filled in too.
        Every text, the reasoning as well, is stripped first.
        """
        text = self._templates[len(earlier)]
        for mark, name in _FIELDS.items():
            text = text.replace(mark, example.fields[name].strip())
        if earlier:
            text = text.replace(_REASONING, earlier[-1].strip())
        last = len(earlier) == self.num_calls - 1
        rules = Rules("longbench_v2", _ANSWER_TOKENS if last else _REASONING_TOKENS)
        return build_prompt(text, prompt_format, rules, max_length, window)

    def score(self, example: Example, prediction: str) -> float:
        """1.0 for the right letter, else 0.0."""
        return score("longbench_v2", example.task, prediction, example.answers)

    def table(self, predictions: Sequence[Prediction]) -> dict[str, float]:
        """Overall, Easy, Hard, Short, Medium, Long: percent, one decimal."""
        lengths, difficulties = ([item.groups[name] for item in predictions] for name in ("length", "difficulty"))
        return longbench_v2.table([item.score for item in predictions], lengths, difficulties)

    @classmethod
    def counts(cls, prediction: Prediction) -> bool:
        """Empty responses are left out of every count, as in the official predictions' file."""
        return bool(prediction.prediction)

    def _template(self, call: int, name: str) -> str:
        path = self.folder / name
        text = read_text(path, LAYOUT)
        needed = list(_FIELDS)[1:]
        if call:
            needed.append(_REASONING)
        elif self.mode != "no_context":
            needed.append("$DOC$")
        for mark in needed:
            if mark not in text:
                raise OfficialFileError.at(str(path), "template", f"the placeholder {mark}", text)
        return text


def _remote() -> Iterator[RemoteFile]:
    """Templates at the pinned commit, and the data."""
    for path, sha256 in _OFFICIAL.items():
        yield github_file(REPOSITORY, COMMIT, path, path, sha256)
    revision, sha256 = _DATA
    yield hub_file("THUDM/LongBench-v2", revision, "data.json", sha256)


def _example(row: Row) -> Example:
    fields = {name: row.text(name) for name in _FIELDS.values()}
    groups = {
        "difficulty": row.choice("difficulty", ("easy", "hard")),
        "length": row.choice("length", ("short", "medium", "long")),
        "domain": row.text("domain"),
    }
    words = len(fields["context"].split())
    answer = (row.choice("answer", LETTERS),)
    return Example(row.text("_id"), "longbench_v2", words, fields["question"], answer, fields, groups)
