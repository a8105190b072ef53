"""Stores generated answers on disk as they come, so that none is generated twice and all can be scored again."""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from evaluation.benchmark import Example
from lit_longpo.errors import InputError
from lit_longpo.files.manifest import complete_lines
from lit_longpo.files.stored import line_of, stored_as, stored_line
from lit_longpo.files.strict_json import RecordError, instead, shortened
from lit_longpo.policy.prompts.thoughts import has_thoughts, without_thoughts

_RUNS = "runs.jsonl"  # how the answers beside it were made, one line for every run that gave some


class DamagedResponseError(RecordError):
    """A line of our own files of responses cannot be read."""


@dataclass(frozen=True)
class StoredResponse:
    """One generated text.

    Args:
        id: of the example.
        call: number of the call, from 0; LongBench v2's chain of thought makes two.
        response: the text, nothing stripped.
        num_tokens: tokens of the filled template, before truncation.
        num_lost: of them, cut out of the middle.
        record: hash of the record that was asked about.
        in_chat: whether the prompt was wrapped in the chat template.
        thinks: whether the prompt opened thoughts, which the text then goes on with.
        at_limit: whether its limit of tokens ended it, not the model.
    """

    id: str
    call: int
    response: str
    num_tokens: int
    num_lost: int
    record: str
    in_chat: bool
    thinks: bool
    at_limit: bool

    @property
    def answer(self) -> str:
        """What the text says behind its last thoughts; empty if it was cut off within them."""
        return without_thoughts(self.response, opened=self.thinks)

    @property
    def has_thoughts(self) -> bool:
        """Whether there are thoughts before the answer."""
        return has_thoughts(self.response, opened=self.thinks)


class Responses:
    """The responses of one run, in a folder of `<task>.jsonl` files or in memory only.

    Args:
        folder: `None` keeps them in memory.

    Attributes:
        facts: how the responses to come are made; written down beside the first of them.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = folder
        self.facts: Mapping[str, object] = {}
        self._has_answered = False
        self._tasks: dict[str, dict[tuple[str, int], StoredResponse]] = {}

    def add(self, task: str, rows: Sequence[StoredResponse]) -> None:
        """Remember responses, on disk first."""
        if self.folder is not None:
            self._write_facts()
            lines = b"".join(line_of(asdict(row)) for row in rows)
            with open(self._path(task), "ab") as file:
                file.write(lines)
        self.remember(task, rows)

    def remember(self, task: str, rows: Iterable[StoredResponse]) -> None:
        """Keep responses in memory, for example what another process has on disk."""
        self._tasks.setdefault(task, {}).update({(row.id, row.call): row for row in rows})

    def made_by(self) -> dict[str, object]:
        """The facts of the last run that answered anything, with those that differed in earlier runs."""
        *before, last = self._runs() or [dict(self.facts)]
        earlier = dict.fromkeys(text for run in before if (text := _difference(run, last)))
        return last | ({"earlier runs": "; ".join(earlier)} if earlier else {})

    def _runs(self) -> list[dict[str, object]]:
        """The facts of every run that answered anything."""
        path = None if self.folder is None else self.folder / _RUNS
        if path is None or not path.exists():
            return []
        with open(path, "r+b") as file, instead("delete the line, it only says how answers were made"):
            lines = enumerate(complete_lines(file), 1)
            return [stored_line(line, f"{path}:{number}") for number, (_, line) in lines]

    def _write_facts(self) -> None:
        """Once, before the first answer."""
        if self.folder is None or self._has_answered:
            return
        self._runs()  # cuts off a line that a killed run was writing
        with open(self.folder / _RUNS, "ab") as file:
            file.write(line_of(self.facts))
        self._has_answered = True

    def of_task(self, task: str) -> list[StoredResponse]:
        """All of a task, in the order in which they came.

        Raises:
            DamagedResponseError: a line of the file is damaged; the message names it.
        """
        if task not in self._tasks and self.folder is not None and self._path(task).exists():
            with open(self._path(task), "r+b") as file:
                self.remember(task, list(_read(file, self._path(task))))
        return list(self._tasks.get(task, {}).values())

    def of_example(self, example: Example) -> list[StoredResponse]:
        """Those of one example, in the order of the calls.

        Raises:
            InputError: they answer another record of that id.
        """
        rows = self._tasks.get(example.task, {})
        answers = list[StoredResponse]()
        while (example.id, len(answers)) in rows:
            answers.append(rows[example.id, len(answers)])
        if any(row.record != record_hash(example) for row in answers):
            place = self._path(example.task) if self.folder else "them"
            raise InputError(
                f"expected stored responses to the record {example.id} as it is now, got some to another text; type "
                f"--output FOLDER to use another folder, or delete {place} to start over"
            )
        return answers

    def forget(self, task: str) -> None:
        """Free the memory of a task that is on disk."""
        self._tasks.pop(task, None)

    def _path(self, task: str) -> Path:
        assert self.folder is not None
        return self.folder / f"{task}.jsonl"


def _difference(run: Mapping[str, object], last: Mapping[str, object]) -> str:
    """The facts that differed in another run into the same folder; empty if only the date did."""
    names = [name for name in {**run, **last} if run.get(name) != last.get(name)]
    return ", ".join(f"{name}: {run.get(name)}" for name in names) if set(names) - {"date"} else ""


def record_hash(example: Example) -> str:
    """Hash of what is asked (16 hex digits), without the accepted answers, which may be corrected later."""
    asked = json.dumps([example.question, sorted(example.fields.items())], ensure_ascii=True)
    return hashlib.sha256(asked.encode()).hexdigest()[:16]


def _read(file: Any, path: Path) -> Iterator[StoredResponse]:
    first = dict[tuple[str, int], StoredResponse]()
    for number, (_, line) in enumerate(complete_lines(file), 1):
        where = f"{path}:{number}"
        try:
            with instead("delete the line to ask again"):
                row = stored_as(stored_line(line, where), StoredResponse, where)
        except RecordError as error:
            raise DamagedResponseError(str(error)) from error
        before = first.setdefault((row.id, row.call), row)
        if before.record == row.record and before.response != row.response:
            raise DamagedResponseError(
                f"{where}: record: expected one answer to {shortened(row.id)}, got another one before it; delete the "
                "line that is wrong"
            )
        yield row
