"""`python -m lit_longpo plan`: the configuration of `fit`, worked out instead of run."""

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import zip_longest
from pathlib import Path
from typing import Any

from jsonargparse import Namespace
from lightning.pytorch import Trainer
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI
from rich.console import Console

from lit_longpo.cli import LongPOCLI
from lit_longpo.files.stored import write_json
from lit_longpo.planning.inputs.configuration import Configuration, read_configuration
from lit_longpo.planning.inputs.known_lengths import longest_example
from lit_longpo.planning.inputs.plan_options import PlanOptions
from lit_longpo.planning.longest import Longest, find_longest
from lit_longpo.planning.plan import Plan, make_plan
from lit_longpo.planning.report import as_dict, longest_as_dict, show, show_longest


class PlanCLI(LongPOCLI):
    """Parses what `fit` parses, and the plan's own options; instantiates nothing."""

    prog = "python -m lit_longpo plan"

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(run=False, **kwargs)

    def init_parser(self, **kwargs: Any) -> LightningArgumentParser:
        """The parser, whose help says what `plan` does."""
        says = (
            "What `fit` would take with the same arguments, worked out instead of run: memory, FLOPs, time, conflicts."
        )
        return super().init_parser(description=says, **kwargs)

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """The arguments of `fit`, and `PlanOptions`."""
        super().add_arguments_to_parser(parser)
        parser.add_method_arguments(Trainer, "fit", skip=set(LightningCLI.subcommands()["fit"]))
        parser.add_class_arguments(PlanOptions)

    def before_instantiate_classes(self) -> None:
        """Skip the checks of `fit` against this machine, since a plan may be for another one."""

    def instantiate_classes(self) -> None:
        """Nothing: neither model, data nor trainer is built."""

    def after_instantiate_classes(self) -> None:
        """Skip the check of processes, since there is no trainer."""


def plan_for(arguments: list[str]) -> Plan:
    """The plan of a command line."""
    return make_plan(configuration_of(PlanCLI(args=arguments).config))


def configuration_of(config: Namespace) -> Configuration:
    """What a configuration says, and how long the examples of its data are."""
    run = read_configuration(config)
    longest, source = longest_example(config, run.objective.views, run.policy)
    return replace(run, longest=longest, longest_from=source)


def plan(arguments: list[str]) -> None:
    """Print the plan that the arguments ask for, and write it if they ask for that."""
    words = with_goal(arguments)
    with _warnings_only():
        config = PlanCLI(args=words).config
        run = configuration_of(config)
        if run.options.longest is None:
            result: Plan | Longest = make_plan(run)
        else:
            result = find_longest(run, words, _read, list(config.data.as_dict().get("init_args") or {}))
    if isinstance(result, Longest):
        show_longest(result, Console())
    else:
        show(result, Console())
    if run.options.json is not None:
        path = Path(run.options.json)
        path.parent.mkdir(parents=True, exist_ok=True)
        contents = longest_as_dict(result) if isinstance(result, Longest) else as_dict(result)
        write_json(path, contents, indent=2)


def _read(words: Sequence[str]) -> Configuration:
    return configuration_of(PlanCLI(args=list(words)).config)


def with_goal(arguments: list[str]) -> list[str]:
    """Command line in which `--longest` alone means any way to run."""
    alone = [
        word == "--longest" and (following is None or following.startswith("-"))
        for word, following in zip_longest(arguments, arguments[1:])
    ]
    return ["--longest=any" if bare else word for word, bare in zip(arguments, alone, strict=True)]


@contextmanager
def _warnings_only() -> Iterator[None]:
    """Inside the block libraries log warnings only; nothing is loaded that they could report on."""
    loggers = [logging.getLogger(name) for name in ("lit_longpo", "lightning.fabric.utilities.seed")]
    before = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        for logger, level in zip(loggers, before, strict=True):
            logger.setLevel(level)
