"""`python -m lit_longpo build`: a build from YAML."""

import logging
import sys
from pathlib import Path
from typing import Any

from data_modules.builders.build import Build
from data_modules.builders.checks.decontamination import Decontamination
from data_modules.builders.checks.verifiers import Verifier
from data_modules.builders.generators.base import TextGenerator
from data_modules.builders.recipes.base import Recipe
from data_modules.builders.rehearsal import rehearse
from data_modules.builders.sources.base import Source
from lit_longpo.command_line.parser import SuggestingParser
from lit_longpo.policy import PolicyConfig
from lit_longpo.policy.stale_settings import stale_settings
from lit_longpo.strategies import check_processes

log = logging.getLogger(__name__)


def build_parser() -> SuggestingParser:
    """Top-level keys: `source`, `recipe`, `generator`, `policy`, and what `Build` takes beside."""
    parser = SuggestingParser(prog="python -m lit_longpo build", description="Build preference pairs from raw text.")
    parser.recipe_room = "build"
    parser.add_argument("--config", action="config", help="YAML file; a later one wins")
    parser.add_subclass_arguments(Source, "source", required=True)
    parser.add_subclass_arguments(Recipe, "recipe", required=True)
    parser.add_subclass_arguments(TextGenerator, "generator", required=True)
    parser.add_class_arguments(PolicyConfig, "policy")
    parser.add_argument(
        "--verifiers", type=list[Verifier], default=[], enable_path=True, help="judges that label every pair"
    )
    parser.add_argument(
        "--decontamination",
        type=Decontamination | None,
        default=None,
        help="evaluation files whose questions are left out",
    )
    parser.add_argument("--output", type=str, required=True, help="folder of pairs.jsonl, report.md and the answers")
    parser.add_argument("--seed", type=int, default=0, help="seed of everything that is drawn")
    parser.add_argument("--window", type=int, default=16, help="records that are processed at a time")
    parser.add_argument("--limit", type=int | None, default=None, help="at most this many records")
    parser.add_argument(
        "--max_margin", type=float | None, default=None, help="leave out pairs with a larger margin for the policy"
    )
    parser.add_argument("--dry_run", "--dry-run", action="store_true", help="show three prompts and the cost")
    return parser


def parse_build(arguments: list[str]) -> tuple[Build, bool]:
    """The build that the arguments describe, and whether it is a dry run."""
    parser = build_parser()
    parsed = parser.parse_args(arguments)
    if (stale := stale_settings(parsed, arguments)) is not None:
        log.warning(stale)
    values: Any = parser.instantiate_classes(parsed)
    dry_run = values.dry_run
    names = ("source", "recipe", "generator", "verifiers", "decontamination", "seed", "window", "limit", "max_margin")
    settings = {name: values[name] for name in (*names, "policy")}
    return Build(**settings, output=Path(values.output)), dry_run


def build(arguments: list[str]) -> None:
    """Build pairs as the arguments say."""
    job, dry_run = parse_build(arguments)
    if dry_run:
        sys.stdout.write(rehearse(job) + "\n")
        return
    check_processes(1, "build")
    job.run()
