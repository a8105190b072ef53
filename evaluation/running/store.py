"""Folders in which answers are stored: one for everything that they depend on, for one run at a time."""

import hashlib
import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from lightning.fabric.utilities.rank_zero import rank_zero_only
from torch import nn

from evaluation.benchmark import Benchmark
from evaluation.processes import rank
from evaluation.running.answerers import Answerer, answerer_of
from evaluation.running.protocols import protocol_of
from evaluation.running.responses import Responses
from evaluation.running.settings import RunSettings
from lit_longpo.errors import MissingFileError
from lit_longpo.files.locks import lock
from lit_longpo.files.manifest import MANIFEST, check_manifest, check_manifest_early, read_manifest
from lit_longpo.files.stored import check_fields
from lit_longpo.files.strict_json import instead
from lit_longpo.policy import PromptFormat
from lit_longpo.policy.fingerprint import tokens_hash

_KIND = "evaluation"
_FORMAT = 1  # of the folder; raised when older folders cannot be continued
_NOTES = {"benchmark settings": Mapping[str, object], "max_length": int, "name": str}  # that a report is made with


@dataclass(frozen=True)
class Store:
    """Answers of one model to one benchmark on disk, in `evaluate` and in `fit` alike.

    Args:
        benchmark: what is asked.
        model: who answers, adapters included.
        prompt_format: its tokenizer and chat template.
        settings: of the run.
    """

    benchmark: Benchmark
    model: nn.Module | Answerer
    prompt_format: PromptFormat
    settings: RunSettings

    @cached_property
    def answerer(self) -> Answerer:
        """The model, or what stands for it."""
        return answerer_of(self.model)

    @property
    def fingerprint(self) -> str:
        """Hash of the model's weights; every process has to ask for it."""
        return self.answerer.fingerprint

    @cached_property
    def manifest(self) -> dict[str, object]:
        """What answers depend on beside the records, each of which is hashed apart."""
        length = self.settings.length(self.benchmark, self.answerer.window, self.prompt_format)
        protocol = protocol_of(self.settings.protocol, self.benchmark, self.answerer, self.prompt_format)
        asked = (self.benchmark, self.prompt_format, self.fingerprint, length, self.answerer.ends)
        return _manifest_of(*asked) | protocol.manifest

    def open(self, folder: Path, notes: Mapping[str, str]) -> AbstractContextManager[Responses]:
        """The answers in a folder for the first process, in memory for others.

        Raises:
            InputError: the folder holds answers of another model or with other settings.
            BusyError: another run is at work there.
        """
        manifest = self.manifest  # on every process, as weights may be spread
        return nullcontext(Responses()) if rank() > 0 else open_responses(folder, manifest, notes)

    @contextmanager
    def open_until_done(self, root: Path | None, title: str) -> Iterator[Responses]:
        """The answers in a folder named after all that they depend on, which is deleted when the block ends well.

        Args:
            root: where such folders lie; `None` keeps answers in memory.
            title: what the folder's name begins with.

        Raises:
            BusyError: another run gives the same answers at the same time.
        """
        if root is None:
            yield Responses()
            return
        text = json.dumps(self.manifest, sort_keys=True, default=str)
        folder = root / f"{title}-{hashlib.sha256(text.encode()).hexdigest()[:16]}"
        with self.open(folder, {}) as responses:
            yield responses
        if rank() == 0:
            shutil.rmtree(folder)
            if not any(root.iterdir()):
                root.rmdir()


@contextmanager
def open_responses(folder: Path, manifest: Mapping[str, Any], notes: Mapping[str, Any]) -> Iterator[Responses]:
    """The responses in a folder, for one run at a time.

    Args:
        folder: made if it is not there.
        manifest: what responses depend on; written by the first run, compared by later ones.
        notes: written with it, not compared.

    Raises:
        InputError: the folder holds responses with other settings.
        BusyError: another process is writing there.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with _alone(folder):
        check_manifest(folder, manifest, _KIND, notes, lines=folder.glob("*.jsonl"))
        yield Responses(folder)


def check_asked(folder: Path, benchmark: Benchmark) -> None:
    """Refuse a folder of answers to other questions, or one in use, before a model is loaded.

    Raises:
        InputError: the folder holds responses to another benchmark, or with other settings of it.
        BusyError: another process is writing there.
    """
    # Only the first process, which the others would find at it.
    if getattr(rank_zero_only, "rank", 0) == 0 and (folder / ".lock").exists():
        with _alone(folder):
            pass
    check_manifest_early(folder, _asked(benchmark), _KIND, lines=folder.glob("*.jsonl"))


def _asked(benchmark: Benchmark) -> dict[str, object]:
    return {"benchmark": benchmark.name, "benchmark settings": dict(benchmark.settings)}


@contextmanager
def stored_responses(folder: Path) -> Iterator[Responses]:
    """The responses that a run left, whatever it depended on.

    Raises:
        BusyError: the run is still writing there.
    """
    with _alone(folder):
        yield Responses(folder)


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    with open(folder / ".lock", "a+b") as file:
        lock(file, folder, _KIND)
        yield


def _manifest_of(
    benchmark: Benchmark, prompt_format: PromptFormat, fingerprint: str, max_length: int, ends: Sequence[int]
) -> dict[str, object]:
    """What responses depend on beside the records, each of which is hashed apart.

    Args:
        benchmark: what is asked.
        prompt_format: tokenizer and chat template.
        fingerprint: of the model, adapters included.
        max_length: tokens that longer prompts are cut to.
        ends: the model's own end tokens.
    """
    template = prompt_format.template
    chat = [prompt_format.uses_chat, template.system, template.options, prompt_format.tokenizer.chat_template]
    chat += [template.markup, template.date]
    own = {"prompt template": template.user} if benchmark.in_own_template else {}
    return own | {
        "format": _FORMAT,
        **_asked(benchmark),
        "model": fingerprint,
        "max_length": max_length,
        "end tokens": list(ends),
        "chat template": hashlib.sha256(json.dumps(chat, sort_keys=True, default=str).encode()).hexdigest()[:16],
        "tokenizer": tokens_hash(prompt_format),
    }


def stored_notes(folder: Path) -> dict[str, Any]:
    """What was written down about the responses in a folder.

    Raises:
        MissingFileError: there are none.
        RecordError: it is damaged.
    """
    path = folder / MANIFEST
    if not path.is_file():
        raise MissingFileError(f"expected predictions in {folder}, got no {path.name}; set `output` to where they are")
    notes = read_manifest(folder)
    with instead("type --output FOLDER to ask again into another folder"):
        check_fields(notes, _NOTES, str(path))
    return notes
