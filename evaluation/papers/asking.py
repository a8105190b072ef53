"""The benchmarks of a paper asked one after the other of a model that is loaded once, and the paper's tables."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

from rich.console import Console
from rich.markdown import Markdown

from evaluation.evaluating import Evaluation
from evaluation.papers.columns import Reports
from evaluation.papers.paper import Paper
from evaluation.processes import rank
from evaluation.reports.pages import Page
from evaluation.reports.report import BenchmarkReport
from evaluation.respondent import EvaluationRun
from evaluation.running.answerers import answerer_of
from lit_longpo.files.stored import write_json

log = logging.getLogger(__name__)

_FACTS = ("date", "command", "commit", "versions", "dtype", "device")  # of all parts alike


@dataclass
class PaperEvaluation(EvaluationRun):
    """A paper's benchmarks asked of one model; each leaves its own report, all together the paper's tables.

    Predictions and report of each are in a folder of its own below `output`; the paper's size says what `settings`
    leaves open.

    Args:
        paper: what is asked.
    """

    paper: Paper = field(kw_only=True)

    @property
    def name(self) -> str:
        """The paper's name."""
        return self.paper.name

    def run(self) -> Reports:
        """Ask, write every report, and the tables.

        Raises:
            MissingFileError, MissingPackageError, InputError: as `Evaluation.check` and `Evaluation.ask`; what can be
                known before is known before the model is loaded.
        """
        extremes = {name: part.check() for name, part in self.parts.items()}
        model, prompt_format = self.respondent.load()
        answerer = answerer_of(model)  # one for all parts: the weights are hashed once
        return self._written(
            {name: part.ask(answerer, prompt_format, extremes[name]) for name, part in self.parts.items()}
        )

    def prepare(self) -> str:
        """What is ready: its benchmarks have downloaded their files as the paper was made."""
        return self.name

    def rescore(self) -> Reports:
        """Score the stored responses once more, and make the tables again."""
        return self._written({name: part.rescore() for name, part in self.parts.items()})

    @cached_property
    def parts(self) -> dict[str, Evaluation]:
        """One for each of the paper's benchmarks."""
        return {
            name: Evaluation(
                *(self.respondent, self.paper.settings(benchmark, self.settings), self.output / name, self.command),
                loggers=self.loggers,
                benchmark=benchmark,
            )
            for name, benchmark in self.paper.benchmarks.items()
        }

    def _written(self, reports: Reports) -> Reports:
        if rank() > 0:
            return reports
        page = Page(self.paper.source, self._head(reports), self.paper.sections(reports))
        path = self.output / f"{self.paper.name}.json"
        tables = {
            "paper": self.paper.source,
            "head": dict(page.head),
            "sections": [item.plain() for item in page.sections],
        }
        write_json(path, tables, indent=1, ensure_ascii=False)
        page.write(path)
        Console().print(Markdown("\n\n".join(section.markdown() for section in page.sections)))
        log.info("written: %s, .md, .html", path)
        return reports

    def _head(self, reports: Reports) -> list[tuple[str, str]]:
        first = next(iter(reports.values()))
        said = [
            ("model", first.model),
            *((name, str(first.settings[name])) for name in _FACTS if name in first.settings),
        ]
        parts = [(name, _described(report)) for name, report in reports.items()]
        return [*said, *parts, ("not here", "; ".join((*self.paper.left_out, *self.paper.not_asked)) or "nothing")]


def _described(report: BenchmarkReport) -> str:
    asked: Mapping[str, object] = report.settings
    cut = f"prompts of at most {asked['max_length']} tokens" if "max_length" in asked else "length not stated"
    said = "; ".join(report.deviations) or "none"
    return f"{len(report.predictions):,} examples, {cut}, {report.protocol}; deviations: {said}"
