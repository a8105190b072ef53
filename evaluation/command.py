"""`python -m lit_longpo evaluate`: a model on a benchmark, from YAML."""

import json
import logging
import sys
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from lightning.fabric import Fabric
from rich.console import Console
from torch import nn
from torch.distributed.device_mesh import init_device_mesh

from evaluation.benchmark import Benchmark
from evaluation.reports.comparison import compare_files
from evaluation.reports.pages import Pages
from evaluation.reports.report import BenchmarkReport
from evaluation.reports.terminal import table
from evaluation.running.batching import Batching
from evaluation.running.processes import rank, world_size
from evaluation.running.responses import Responses, manifest_of, open_responses, stored_notes, stored_responses
from evaluation.running.results import make_report, rescore
from evaluation.running.runner import Runner
from evaluation.running.settings import RunSettings
from lit_longpo.engine import end_ids
from lit_longpo.errors import InputError, MissingFileError
from lit_longpo.policy import PolicyConfig
from lit_longpo.policy.fingerprint import model_fingerprint
from lit_longpo.policy.loading import check_vocabulary
from lit_longpo.strategies import shard
from lit_longpo.suggestions import SuggestingParser

log = logging.getLogger(__name__)


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
    """

    benchmark: Benchmark
    policy: PolicyConfig
    settings: RunSettings
    output: Path
    accelerator: str = "auto"
    devices: int | Literal["auto"] = 1
    shard: bool = False

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
        fabric = Fabric(accelerator=self.accelerator, devices=self.devices, strategy=self._strategy())
        fabric.launch()
        model, prompt_format = self._load(fabric.device), self.policy.prompt_format()
        check_vocabulary(model, prompt_format)
        fingerprint = model_fingerprint(model, with_adapters=True)
        name = f"{self.policy.source} ({fingerprint[:8]})"
        length = self.settings.length(self.benchmark, model, prompt_format)
        manifest = manifest_of(self.benchmark, prompt_format, fingerprint, length, end_ids(model))
        with self._responses(manifest, {"name": name}) as responses:
            runner = Runner(self.benchmark, model, prompt_format, self.settings, responses)
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
        settings = {"max_length": notes["max_length"], "rescored": True, **self.benchmark.settings}
        return self._written(make_report(self.benchmark, scores, model=notes["name"], settings=settings))

    @property
    def folder(self) -> Path:
        """Where responses are."""
        return self.output / "predictions" / self.benchmark.name

    def _responses(self, manifest: dict[str, object], notes: dict[str, str]) -> AbstractContextManager[Responses]:
        """Of the first process in the folder, of others in memory."""
        if rank() > 0:
            return nullcontext(Responses())
        return open_responses(self.folder, manifest, notes)

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
        paths = Pages(report).write(self.output)
        Console().print(table(report))
        log.info("written: %s", ", ".join(str(path) for path in paths))
        return report


def evaluate_parser() -> SuggestingParser:
    """Top-level keys: `benchmark`, `policy`, `output`, and the settings of the run."""
    parser = SuggestingParser(
        prog="python -m lit_longpo evaluate",
        description="A model on a benchmark. --model X is short for --policy X (a YAML file) or --policy.source X. "
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
    parser = evaluate_parser()
    values: Any = parser.instantiate_classes(parser.parse_args(with_policy(arguments)))
    names = ("tasks", "limit", "seed", "max_length", "max_minutes", "batching")
    settings = RunSettings(**{name: values[name] for name in names})
    rest = {name: values[name] for name in ("benchmark", "policy", "accelerator", "devices", "shard")}
    return Evaluation(**rest, settings=settings, output=Path(values.output)), values


def with_policy(arguments: Sequence[str]) -> list[str]:
    """`--model X` as `--policy X` if X is YAML, else as `--policy.source X`; `--model.key` as `--policy.key`."""
    words = [
        word
        for pair in (item.split("=", 1) if item.startswith("--model") else [item] for item in arguments)
        for word in pair
    ]
    for number, word in enumerate(words):
        if word == "--model" and number + 1 < len(words):
            words[number] = "--policy" if words[number + 1].endswith((".yaml", ".yml")) else "--policy.source"
        elif word.startswith("--model."):
            words[number] = word.replace("--model.", "--policy.", 1)
    return words


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
