"""Numbers that mean nothing are refused in one line by every class that data, `build` and `evaluate` are told."""

import inspect
import math
import typing
from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from support.mutations import Refused, outcome

from data_modules.base import PairDataModule
from data_modules.builders.checks.decontamination import Decontamination
from data_modules.builders.checks.verifiers import Verifier
from data_modules.builders.generators.base import TextGenerator
from data_modules.builders.generators.requests import Decoding
from data_modules.builders.recipes.base import Recipe
from data_modules.builders.recipes.filters import AnswerFilter
from data_modules.builders.recipes.questions import QuestionMaker
from data_modules.builders.sources.base import Source
from data_modules.builders.sources.chunking import Chunking
from data_modules.pretraining import WorldTextDataModule
from data_modules.synthetic import WorldHaystack
from evaluation.asking.questions import PromptRules
from evaluation.benchmark import Benchmark
from evaluation.benchmarks.needle_tasks import Sizes
from evaluation.perplexity.windows import Windows
from evaluation.running.batching import Batching
from evaluation.running.settings import RunSettings
from lit_longpo.servers import Server

ROOMS = (Source, Recipe, TextGenerator, AnswerFilter, QuestionMaker, Verifier, Benchmark, PairDataModule)
ALONE = (Batching, Chunking, Decoding, Decontamination, PromptRules, RunSettings, Server, Sizes, Windows)
MADE_UP = (WorldHaystack, WorldTextDataModule)
NEEDED = {"url": "http://localhost", "model": "m", "files": (), "paths": (), "path": "none", "folder": "none"}
NEEDED |= {"prompts": "none", "source": None, "build": None, "sources": {}}
ANY = ("seed",)  # any whole number will do
LATER = ("val_fraction",)  # refused where data are split


def ours(base: type) -> list[type]:
    found = [found for below in base.__subclasses__() for found in (below, *ours(below))]
    return [cls for cls in found if not inspect.isabstract(cls) and not cls.__module__.startswith("test")]


def numeric(hint: Any) -> type | None:
    """`int` or `float`, of an annotation that allows one, or a list of them."""
    if hint in (int, float):
        return hint
    return next((kind for part in typing.get_args(hint) if (kind := numeric(part))), None)


def arguments(cls: type) -> dict[str, Any]:
    """With their annotations; those that are handed on to the bases, too."""
    found = dict[str, Any]()
    for maker in [each.__init__ for each in cls.__mro__ if "__init__" in vars(each)]:
        parameters, hints = inspect.signature(maker).parameters, typing.get_type_hints(maker)
        found |= {name: hints[name] for name in parameters if name in hints and name != "rows"}
        if "rows" not in parameters:
            break
    return found


def may_be_null(hint: Any) -> bool:
    return type(None) in typing.get_args(hint)


def numbers() -> dict[str, tuple[type, str, bool, dict[str, Any]]]:
    """Class, argument, whether it takes several, and what else the class needs; by a readable name."""
    found = {}
    for cls in dict.fromkeys([*(item for room in ROOMS for item in ours(room)), *ALONE, *MADE_UP]):
        needed = {name: value for name, value in NEEDED.items() if name in inspect.signature(cls).parameters}
        for name, hint in arguments(cls).items():
            if name not in ANY + LATER and numeric(hint) and not is_a(hint, Mapping):
                found[f"{cls.__name__}.{name}"] = (cls, name, is_a(hint, Sequence), needed)
    return found


def is_a(hint: Any, kind: type) -> bool:
    """Whether an annotation allows a container of numbers."""
    origin = typing.get_origin(hint)
    return (isinstance(origin, type) and issubclass(origin, kind)) or any(is_a(p, kind) for p in typing.get_args(hint))


NUMBERS = numbers()


def test_every_room_has_some() -> None:
    assert len(NUMBERS) > 60
    assert {"RULER.num_examples", "SoLoPORecipe.temperatures", "QA.lengths", "Repetition.max_share"} <= set(NUMBERS)


@pytest.mark.parametrize("setting", NUMBERS)
def test_a_number_that_means_nothing(setting: str) -> None:
    cls, name, several, needed = NUMBERS[setting]
    for number in (-1, 10**20, math.nan, math.inf):
        found = outcome(lambda number=number: cls(**needed | {name: (number, number) if several else number}))
        assert isinstance(found, Refused), f"{name}={number} is taken"
        assert name in found.message
    if not may_be_null(arguments(cls)[name]):
        assert isinstance(outcome(lambda: cls(**needed | {name: None})), Refused), f"{name}=None is taken"
