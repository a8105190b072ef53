"""`python -m lit_longpo evaluate`: a model on a benchmark, on those of a paper or on short contexts, from YAML."""

import argparse
import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from jsonargparse import Namespace
from lightning.pytorch.loggers import Logger

from evaluation.benchmark import Benchmark
from evaluation.evaluating import Evaluation
from evaluation.own_settings import parse_with_own, with_policy
from evaluation.papers.asking import PaperEvaluation
from evaluation.papers.paper import Paper
from evaluation.reports.before_after import compared, page_of, write_page
from evaluation.respondent import Respondent
from evaluation.running.batching import Batching
from evaluation.running.facts import typed
from evaluation.running.settings import RunSettings
from evaluation.served.respondent import ServedRespondent
from evaluation.served.settings import ServerSettings, with_server
from evaluation.short_context import ShortContext, ShortContextEvaluation
from lit_longpo.command_line.parser import SuggestingParser
from lit_longpo.errors import InputError, MissingFileError
from lit_longpo.files.folders import nearby
from lit_longpo.files.storing import storing
from lit_longpo.loggers import name_loggers
from lit_longpo.policy import PolicyConfig

log = logging.getLogger(__name__)

Loggers = Logger | list[Logger] | None
# What can be asked, by its option; exactly one of them is given.
_ASKED: dict[str, type] = {
    "benchmark": Evaluation,
    "paper": PaperEvaluation,
    "short_context": ShortContextEvaluation,
}


def evaluate_parser() -> SuggestingParser:
    """Top-level keys: `benchmark`, `policy`, `output`, and the settings of the run."""
    parser = SuggestingParser(
        prog="python -m lit_longpo evaluate",
        description="Run a benchmark on a model. --model X is short for --policy X (a YAML file) or --policy.source X; "
        "dtype and template are the model's own unless you type them. "
        "With --server URL --server_model NAME an OpenAI-compatible server answers, and of --model only the tokenizer "
        "is read. `evaluate --compare a.json b.json` (or two folders of reports) compares reports instead; --output "
        "also writes the comparison as pages.",
    )
    parser.recipe_room, parser.shorthands = "eval", ("model", "server_model", "server_way")
    parser.add_argument("--config", action="config", help="YAML file; a later one wins")
    parser.add_argument("--benchmark", type=Benchmark, help="which benchmark")
    parser.add_argument("--paper", type=Paper, help="or the benchmarks of a paper's tables")
    parser.add_argument("--short_context", type=ShortContext, help="or tasks of lm-evaluation-harness")
    parser.add_class_arguments(PolicyConfig, "policy")
    parser.add_class_arguments(RunSettings, skip={"batching"})
    parser.add_class_arguments(Batching, "batching")
    parser.add_class_arguments(ServerSettings, "server")
    parser.add_argument("--output", type=str, required=True, help="folder for predictions and report")
    parser.add_argument("--accelerator", type=str, default="auto", help="auto, cpu, gpu, ...")
    parser.add_argument("--devices", type=int | Literal["auto"], default=1, help="processes that share the questions")
    parser.add_argument("--shard", action="store_true", help="split the weights over the processes (FSDP2)")
    parser.add_argument(
        "--logger", type=Loggers, default=None, help="where the report is shown; null means TensorBoard in --output"
    )
    parser.add_argument("--rescore", action="store_true", help="score the stored predictions again, without a model")
    parser.add_argument("--prepare_data", action="store_true", help="only download what the benchmark needs")
    return parser


def parse_evaluation(arguments: Sequence[str]) -> tuple[Any, Any]:
    """What the arguments ask of whom (an `EvaluationRun` with `run` and `rescore`), and all values."""
    parser, words = evaluate_parser(), with_server(with_policy(arguments))
    needs_model = not {"--rescore", "--prepare_data"} & set(words)
    parsed = parse_with_own(parser, words, needs_model=needs_model)
    given = [name for name in _ASKED if parsed.get(name) is not None]
    if len(given) != 1:
        parser.error(
            f"expected one of {', '.join(f'--{name}' for name in _ASKED)}, got {' and '.join(given) or 'none'}"
        )
    name_loggers(Namespace(logger=parsed.logger, default_root_dir=parsed.output), None)
    values: Any = parser.instantiate_classes(parsed)
    names = ("tasks", "limit", "seed", "max_length", "max_minutes", "batching", "protocol")
    settings = RunSettings(**{name: values[name] for name in names})
    who = {name: values[name] for name in ("policy", "accelerator", "devices", "shard")}
    respondent = Respondent(**who) if values.server.url is None else ServedRespondent(**who, server=values.server)
    loggers = values.logger or []
    loggers = loggers if isinstance(loggers, list) else [loggers]
    rest = (respondent, settings, Path(values.output), typed("evaluate", arguments), loggers)
    return _ASKED[given[0]](*rest, **{given[0]: values[given[0]]}), values


def evaluate(arguments: Sequence[str]) -> None:
    """Evaluate, or compare two reports, as the arguments say."""
    if "--compare" in arguments:
        _compare([word for word in arguments if word != "--compare"])
        return
    asked, values = parse_evaluation(arguments)
    if values.prepare_data:
        log.info("%s is ready", asked.prepare())
        return
    with asked.respondent.watchdog, storing(asked.output, "--output FOLDER"):
        if values.rescore:
            asked.rescore()
        else:
            asked.run()


def _compare(words: list[str]) -> None:
    """Print how two reports, or those of two folders, differ; `--output FOLDER` writes pages as well."""
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--output", type=Path)
    options, paths = parser.parse_known_args(words)
    if len(paths) != 2:
        raise InputError(
            f"expected two reports, got {paths}; type: python -m lit_longpo evaluate --compare a.json b.json"
        )
    if missing := [path for path in paths if not Path(path).exists()]:
        raise MissingFileError(
            f"expected reports at {' and '.join(paths)}, found none at {' and '.join(missing)}; reports are the .json "
            "files that `evaluate` writes into --output, and callbacks into `benchmarks` of a run"
            f"{nearby(missing[0])}"
        )
    for title, comparison in compared(Path(paths[0]), Path(paths[1])):
        sys.stdout.write(comparison.markdown())
        if options.output is not None:
            log.info("written: %s", ", ".join(map(str, write_page(page_of(comparison), options.output, title))))
