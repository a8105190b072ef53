"""Chooses the folder in which answers are stored, one for everything that they depend on."""

import hashlib
import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from torch import nn

from evaluation.benchmark import Benchmark
from evaluation.processes import rank
from evaluation.running.answerers import Answerer, answerer_of
from evaluation.running.protocols import protocol_of
from evaluation.running.responses import Responses, manifest_of, open_responses
from evaluation.running.settings import RunSettings
from lit_longpo.policy import PromptFormat


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
        return manifest_of(*asked) | protocol.manifest

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
