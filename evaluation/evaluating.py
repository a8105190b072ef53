"""One benchmark asked of one model, from its records to its report."""

import json
from dataclasses import dataclass, field
from pathlib import Path

from torch import nn

from evaluation.benchmark import Benchmark, Example
from evaluation.reports.publishing import publish
from evaluation.reports.report import BenchmarkReport
from evaluation.respondent import EvaluationRun
from evaluation.running.answerers import Answerer
from evaluation.running.preflight import check_lengths, extreme_examples
from evaluation.running.protocols import check_protocol
from evaluation.running.results import make_report
from evaluation.running.runner import Runner
from evaluation.running.store import Store, check_asked, stored_notes, stored_responses
from evaluation.running.task_scores import rescore
from lit_longpo.errors import InputError
from lit_longpo.files.storing import check_writable
from lit_longpo.policy import PromptFormat


@dataclass
class Evaluation(EvaluationRun):
    """One benchmark asked of one model.

    Args:
        benchmark: what is asked.
    """

    benchmark: Benchmark = field(kw_only=True)

    def run(self) -> BenchmarkReport:
        """Answer what is not answered yet, score, write the report and print its table.

        Raises:
            InputError: `output` holds the responses of another model or with other settings.
        """
        extremes = self.check()
        return self.ask(*self.respondent.load(), extremes)

    def check(self) -> list[Example]:
        """Read every record and try the lengths, before a model is loaded; gives the longest ones and the shortest.

        Raises:
            UnreachableError: there is no such server.
            MissingFileError, MissingPackageError, InputError: see `extreme_examples`, `check_lengths`,
                `check_protocol` and `check_asked`.
        """
        check_protocol(self.settings.protocol, self.benchmark)
        self.respondent.check(self.settings)
        check_asked(self.folder, self.benchmark)
        extremes = extreme_examples(self.benchmark, self.settings.chosen(self.benchmark))
        if (known := self.respondent.known()) is not None:
            check_lengths(self.benchmark, self.settings, *known, extremes)
        check_writable(self.output, "--output FOLDER")
        return extremes

    def ask(self, model: nn.Module | Answerer, prompt_format: PromptFormat, extremes: list[Example]) -> BenchmarkReport:
        """Answer, score and write."""
        store = Store(self.benchmark, model, prompt_format, self.settings)
        name = self.respondent.name(store.fingerprint)
        with store.open(self.folder, {"name": name}) as responses:
            runner = Runner(self.benchmark, model, prompt_format, self.settings, responses, self.command, extremes)
            return publish(runner.run(name=name), self.output, self.loggers)

    def prepare(self) -> str:
        """What is ready: a benchmark has downloaded its files as it was made; where they are, or its name."""
        return str(getattr(self.benchmark, "folder", self.name))

    def rescore(self) -> BenchmarkReport:
        """Score the stored responses once more; no model is loaded.

        Raises:
            MissingFileError: there are none.
            BusyError: the run that makes them is not over.
            InputError: they answer other questions, for example another `mode`.
        """
        notes = stored_notes(self.folder)
        if notes["benchmark settings"] != json.loads(json.dumps(dict(self.benchmark.settings))):
            raise InputError(
                f"expected predictions made with {dict(self.benchmark.settings)}, got {notes['benchmark settings']} in "
                f"{self.folder}; rescore with the `benchmark` that asked"
            )
        with stored_responses(self.folder) as responses:
            scores = rescore(self.benchmark, responses, self.settings)
            facts = responses.made_by()
        settings = {"max_length": notes["max_length"], **facts, "rescored": True, **self.benchmark.settings}
        report = make_report(self.benchmark, scores, model=notes["name"], settings=settings)
        return publish(report, self.output, self.loggers)

    @property
    def name(self) -> str:
        """The benchmark's name."""
        return self.benchmark.name

    @property
    def folder(self) -> Path:
        """Where responses are."""
        return self.output / "predictions" / self.benchmark.name
