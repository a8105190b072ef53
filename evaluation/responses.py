"""Generated answers on disk: appended as they come, never asked for again, scored as often as you like."""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from evaluation.benchmark import Example
from evaluation.official_files import OfficialFileError
from lit_longpo.run_folder import check_manifest, complete_lines, lock

KIND = "evaluation"


@dataclass(frozen=True)
class Response:
    """One generated text.

    Args:
        id: of the example.
        call: number of the call, from 0; LongBench v2's chain of thought makes two.
        response: the text, nothing stripped.
        num_tokens: tokens of the filled template, before truncation.
        num_lost: of them, cut out of the middle.
        record: hash of the record that was asked about.
    """

    id: str
    call: int
    response: str
    num_tokens: int
    num_lost: int
    record: str


class Responses:
    """The responses of one run, in a folder of `<task>.jsonl` files or in memory only.

    Args:
        folder: `None` keeps them in memory.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = folder
        self._tasks: dict[str, dict[tuple[str, int], Response]] = {}

    def add(self, task: str, rows: Sequence[Response]) -> None:
        """Remember responses, on disk first."""
        if self.folder is not None:
            lines = "".join(json.dumps(asdict(row), ensure_ascii=False) + "\n" for row in rows)
            with open(self._path(task), "ab") as file:
                file.write(lines.encode())
        self.share(task, rows)

    def share(self, task: str, rows: Iterable[Response]) -> None:
        """Remember responses in memory, for example what another process has on disk."""
        self._tasks.setdefault(task, {}).update({(row.id, row.call): row for row in rows})

    def of_task(self, task: str) -> list[Response]:
        """All of a task, in the order in which they came.

        Raises:
            OfficialFileError: a line of the file is damaged; the message names it.
        """
        if task not in self._tasks and self.folder is not None and self._path(task).exists():
            with open(self._path(task), "r+b") as file:
                self.share(task, list(_read(file, self._path(task))))
        return list(self._tasks.get(task, {}).values())

    def of_example(self, example: Example) -> list[Response]:
        """Those of one example, in the order of the calls.

        Raises:
            ValueError: they answer another record of that id.
        """
        rows = self._tasks.get(example.task, {})
        found = list[Response]()
        while (example.id, len(found)) in rows:
            found.append(rows[example.id, len(found)])
        if any(row.record != record_hash(example) for row in found):
            raise ValueError(
                f"expected stored responses to the record {example.id} as it is now, got some to another text; set "
                f"another `output`, or delete {self._path(example.task) if self.folder else 'them'} to start over"
            )
        return found

    def forget(self, task: str) -> None:
        """Free the memory of a task that is on disk."""
        self._tasks.pop(task, None)

    def _path(self, task: str) -> Path:
        assert self.folder is not None
        return self.folder / f"{task}.jsonl"


def record_hash(example: Example) -> str:
    """What is asked, as 16 hex digits; answers may be corrected afterwards."""
    asked = json.dumps([example.question, sorted(example.fields.items())], ensure_ascii=True)
    return hashlib.sha256(asked.encode()).hexdigest()[:16]


@contextmanager
def open_responses(folder: Path, manifest: Mapping[str, Any], notes: Mapping[str, Any]) -> Iterator[Responses]:
    """The responses in a folder, for one run at a time.

    Args:
        folder: made if it is not there.
        manifest: what responses depend on; written by the first run, compared by later ones.
        notes: written with it, not compared.

    Raises:
        ValueError: the folder holds responses with other settings.
        BlockingIOError: another process is writing there.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / ".lock", "a+b") as file:
        lock(file, folder, KIND)
        check_manifest(folder, manifest, KIND, notes)
        yield Responses(folder)


def _read(file: Any, path: Path) -> Iterator[Response]:
    for number, (_, line) in enumerate(complete_lines(file), 1):
        try:
            yield Response(**json.loads(line))
        except (ValueError, TypeError) as error:
            raise OfficialFileError(
                f"{path}:{number}: expected a stored response, got {line[:80]!r}; delete the line to ask again"
            ) from error
