"""`python -m lit_longpo evaluate`: a model on a benchmark, from YAML."""

import json
import logging
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from lightning.fabric import Fabric
from lightning.pytorch.loggers import TensorBoardLogger
from rich.console import Console
from torch import nn
from torch.distributed.device_mesh import init_device_mesh

from evaluation.benchmark import Benchmark
from evaluation.own_settings import parse_with_own, with_policy
from evaluation.reports.comparison import compare_files, load_report
from evaluation.reports.logged import show, titled_scalars
from evaluation.reports.pages import Pages
from evaluation.reports.report import BenchmarkReport
from evaluation.reports.terminal import table
from evaluation.running.batching import Batching
from evaluation.running.facts import typed
from evaluation.running.preflight import longest_examples
from evaluation.running.processes import rank, world_size
from evaluation.running.protocols import check_protocol
from evaluation.running.responses import stored_notes, stored_responses
from evaluation.running.results import make_report, rescore
from evaluation.running.runner import Runner
from evaluation.running.settings import RunSettings
from evaluation.running.store import Store
from lit_longpo.errors import InputError, MissingFileError
from lit_longpo.loggers import pages_of
from lit_longpo.policy import PolicyConfig
from lit_longpo.policy.loading import check_vocabulary
from lit_longpo.strategies import shard
from lit_longpo.suggestions import SuggestingParser

log = logging.getLogger(__name__)

_NUM_SAMPLES = 8  # answers of each task on TensorBoard
_PART = "part"  # label of a report on fewer answers than one that is there


@dataclass
class Evaluation:
    """What the command line asks for.

    Args:
        benchmark: what is asked.
        policy: the model, as in `fit`; of `lora` nothing is used; adapters at its `source` are on.
        settings: which examples, and for how long.
        output: folder of the predictions and the report.
        accelerator: "auto", "cpu", "gpu": Lightning's names.
        devices: processes that share the questions.
        shard: split the weights over the processes (FSDP2), for a model that does not fit on one device.
        command: that was typed, for the report.
    """

    benchmark: Benchmark
    policy: PolicyConfig
    settings: RunSettings
    output: Path
    accelerator: str = "auto"
    devices: int | Literal["auto"] = 1
    shard: bool = False
    command: str = ""

    def run(self) -> BenchmarkReport:
        """Answer what is not answered yet, score, write the report and print its table.

        Raises:
            ValueError: `output` holds the responses of another model or with other settings; or 4-bit weights shall be
                sharded.
        """
        if self.shard and self.policy.quantized is not None:
            raise InputError(
                "expected `--shard false` with `policy.quantization`, whose weights and scales belong together, got "
                "true; type --shard false, or --policy.quantization null"
            )
        check_protocol(self.settings.protocol, self.benchmark)
        longest = longest_examples(self.benchmark, self.settings.chosen(self.benchmark))
        fabric = Fabric(accelerator=self.accelerator, devices=self.devices, strategy=self._strategy())
        fabric.launch()
        model, prompt_format = self._load(fabric.device), self.policy.prompt_format()
        check_vocabulary(model, prompt_format)
        store = Store(self.benchmark, model, prompt_format, self.settings)
        name = f"{self.policy.source} ({store.fingerprint[:8]})"
        with store.open(self.folder, {"name": name}) as responses:
            runner = Runner(self.benchmark, model, prompt_format, self.settings, responses, self.command, longest)
            return self._written(runner.run(name=name))

    def rescore(self) -> BenchmarkReport:
        """Score the stored responses once more; no model is loaded.

        Raises:
            FileNotFoundError: there are none.
            BlockingIOError: the run that makes them is not over.
            ValueError: they answer other questions, for example another `mode`.
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
        return self._written(make_report(self.benchmark, scores, model=notes["name"], settings=settings))

    @property
    def folder(self) -> Path:
        """Where responses are."""
        return self.output / "predictions" / self.benchmark.name

    def _strategy(self) -> str:
        return "auto" if self.devices == 1 else "ddp"

    def _load(self, device: torch.device) -> nn.Module:
        model = self.policy.load_base().to(device).eval()  # type: ignore[arg-type]
        if self.shard and world_size() > 1:
            shard(model, init_device_mesh(device.type, (world_size(),)))
        return model

    def _written(self, report: BenchmarkReport) -> BenchmarkReport:
        if rank() > 0:
            return report
        if not report.predictions:
            raise InputError(f"expected at least one answer of {report.name}, got none; raise --max_minutes")
        pages, label = Pages(report), _PART if self._is_part(report) else ""
        paths = pages.write(self.output, label)
        Console().print(table(report))
        self._to_tensorboard(pages, label)
        log.info("written: %s", ", ".join(str(path) for path in paths))
        return report

    def _to_tensorboard(self, pages: Pages, label: str) -> None:
        """Scores, pictures and sample answers, as callbacks show them."""
        logger = TensorBoardLogger(self.output, name="", version="tensorboard")
        title = "-".join(filter(None, (pages.report.name, label)))
        logger.log_metrics(titled_scalars(pages, title), step=pages.report.step)
        for shown in pages_of([logger], self.output):
            show(shown, pages, title, _NUM_SAMPLES)
        logger.finalize("success")

    def _is_part(self, report: BenchmarkReport) -> bool:
        """Whether a report with more answers lies in the output already, which is then kept; said."""
        path = Pages(report).path(self.output)
        known = {item.id for item in load_report(path).predictions} if path.is_file() else set()
        if lost := known - {item.id for item in report.predictions}:
            log.warning(
                "%s keeps its %d answers, %d of which are not in this report, written as %s",
                *(path, len(known), len(lost), Pages(report).path(self.output, _PART).name),
            )
        return bool(lost)


def evaluate_parser() -> SuggestingParser:
    """Top-level keys: `benchmark`, `policy`, `output`, and the settings of the run."""
    parser = SuggestingParser(
        prog="python -m lit_longpo evaluate",
        description="A model on a benchmark. --model X is short for --policy X (a YAML file) or --policy.source X; "
        "what is not typed of dtype and template is the model's own. "
        "`evaluate --compare a.json b.json` compares two reports instead.",
    )
    parser.recipe_room, parser.shorthands = "eval", ("model",)
    parser.add_argument("--config", action="config", help="YAML file; a later one wins")
    parser.add_argument("--benchmark", type=Benchmark, required=True, help="what is asked")
    parser.add_class_arguments(PolicyConfig, "policy")
    parser.add_class_arguments(RunSettings, skip={"batching"})
    parser.add_class_arguments(Batching, "batching")
    parser.add_argument("--output", type=str, required=True, help="folder of the predictions and the report")
    parser.add_argument("--accelerator", type=str, default="auto", help="auto, cpu, gpu, ...")
    parser.add_argument("--devices", type=int | Literal["auto"], default=1, help="processes that share the questions")
    parser.add_argument("--shard", action="store_true", help="split the weights over the processes (FSDP2)")
    parser.add_argument("--rescore", action="store_true", help="score the stored predictions again, without a model")
    parser.add_argument("--prepare_data", action="store_true", help="only download what the benchmark needs")
    return parser


def parse_evaluation(arguments: Sequence[str]) -> tuple[Evaluation, Any]:
    """The evaluation that the arguments describe, and all values."""
    parser, words = evaluate_parser(), with_policy(arguments)
    needs_model = not {"--rescore", "--prepare_data"} & set(words)
    values: Any = parser.instantiate_classes(parse_with_own(parser, words, needs_model=needs_model))
    names = ("tasks", "limit", "seed", "max_length", "max_minutes", "batching", "protocol")
    settings = RunSettings(**{name: values[name] for name in names})
    rest = {name: values[name] for name in ("benchmark", "policy", "accelerator", "devices", "shard")}
    command = typed("evaluate", arguments)
    return Evaluation(**rest, settings=settings, output=Path(values.output), command=command), values


def evaluate(arguments: Sequence[str]) -> None:
    """Evaluate, or compare two reports, as the arguments say."""
    if "--compare" in arguments:
        _compare([word for word in arguments if word != "--compare"])
        return
    evaluation, values = parse_evaluation(arguments)
    if values.prepare_data:
        log.info("%s is ready", getattr(evaluation.benchmark, "folder", evaluation.benchmark.name))
    elif values.rescore:
        evaluation.rescore()
    else:
        evaluation.run()


def _compare(paths: list[str]) -> None:
    if len(paths) != 2:
        raise InputError(
            f"expected two reports, got {paths}; type: python -m lit_longpo evaluate --compare a.json b.json"
        )
    if missing := [path for path in paths if not Path(path).is_file()]:
        raise MissingFileError(
            f"expected reports at {' and '.join(paths)}, found none at {' and '.join(missing)}; reports are the .json "
            "files that `evaluate` writes into --output, and callbacks into `benchmarks` of a run"
        )
    sys.stdout.write(compare_files(Path(paths[0]), Path(paths[1])))
