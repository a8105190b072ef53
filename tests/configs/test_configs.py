"""Every YAML parses and instantiates, every recipe runs, and swapped fragments inherit nothing."""

import dataclasses
import inspect
import itertools
import pkgutil
import typing

import pytest
import yaml
from jsonargparse import Namespace
from support.command_line import COMMANDS, CONFIGS, build, parse

import data_modules
from data_modules.base import PairDataModule
from evaluation import NeedleCallback
from lit_longpo import objectives
from lit_longpo.objectives import PairwiseModule

RECIPES = sorted(CONFIGS.glob("*.yaml"))
OBJECTIVES = sorted((CONFIGS / "objective").glob("*.yaml"))
OVERLAYS = sorted((CONFIGS / "overlays").glob("*.yaml"))
LINKED = {"policy", "optimization", "reference"}
SECTIONS = {
    "objective": "model",
    "model": "policy",
    "data": "data",
    "trainer": "trainer",
    "optimization": "optimization",
}
FRAGMENTS = [path for folder in SECTIONS for path in sorted((CONFIGS / folder).glob("*.yaml"))]


def names(path):
    return str(path.relative_to(CONFIGS))


def test_there_is_something_to_test():
    assert {"solopo", "dpo", "simpo", "orpo", "sft", "pretrain_tiny"} <= {path.stem for path in RECIPES}
    assert COMMANDS.keys() >= {"fit", "validate", "test"}


VARIANTS = ("ipo", "simpo", "pretrain_tiny", "pretrain_tiny_stage2")  # of others' code and data


@pytest.mark.parametrize(
    "recipe",
    [pytest.param(path, marks=pytest.mark.slow) if path.stem in VARIANTS else path for path in RECIPES],
    ids=names,
)
@pytest.mark.usefixtures("blank_pictures")
def test_every_recipe_runs_two_steps(recipe, tmp_path):
    cli = build(
        *("--config", recipe, "--trainer.default_root_dir", tmp_path, "--trainer.max_steps", 2),
        *("--data.init_args.num_train", 200 if "pretrain" in recipe.stem else 24),  # texts fill one row together
        *("--data.init_args.num_val", 4, "--trainer.val_check_interval", 1),
        *("--trainer.log_every_n_steps", 1),
    )
    cli.trainer.callbacks = [c for c in cli.trainer.callbacks if type(c).__name__ != "SavePretrained"]
    needle = next(callback for callback in cli.trainer.callbacks if isinstance(callback, NeedleCallback))
    needle.benchmark = dataclasses.replace(needle.benchmark, lengths=(24, 48), depths=(0.5,), num_examples=2)
    cli.trainer.fit(cli.model, cli.datamodule)
    assert cli.trainer.global_step == 2
    assert [report.step for report in needle.reports][:1] == [0]
    assert needle.reports[-1].step == 2
    assert list(tmp_path.rglob("config.yaml"))
    assert list(tmp_path.rglob("needle-step2.html"))


def instantiated(name, *arguments):
    """Build what this machine can build; the real models of `model/` are built with twins in test_models.py."""
    if name.startswith("deepspeed") or name == "ulysses":
        pytest.importorskip("deepspeed", reason='needs pip install "lit_longpo[deepspeed]"')
    if name == "smollm2_musique":
        arguments += ("--policy", CONFIGS / "model" / "tiny.yaml")
    if name in ("gpu", "real"):
        arguments += ("--trainer.accelerator", "cpu")
    return build(*arguments)


@pytest.mark.parametrize("overlay", OVERLAYS, ids=names)
def test_every_overlay_goes_on_top_of_a_recipe(overlay):
    arguments = ("--config", CONFIGS / "solopo.yaml", "--config", overlay)
    assert instantiated(overlay.stem, *arguments).trainer.max_epochs in (1, None, -1)


def test_ulysses_keeps_the_stage_of_the_overlay_before():
    overlays = ["deepspeed_zero3_offload", "ulysses"]
    files = [argument for name in overlays for argument in ("--config", CONFIGS / "overlays" / f"{name}.yaml")]
    strategy = parse("--config", CONFIGS / "solopo.yaml", *files).trainer.strategy
    assert {"stage": 3, "offload_optimizer": True, "sequence_parallel": 2}.items() <= vars(strategy.init_args).items()


@pytest.mark.parametrize("fragment", FRAGMENTS, ids=names)
def test_every_fragment_fits_its_section(fragment):
    section = SECTIONS[fragment.parent.name]
    arguments = ("--config", CONFIGS / "solopo.yaml", f"--{section}", fragment)
    config = parse(*arguments) if section == "policy" else instantiated(fragment.stem, *arguments).config
    assert config[section]


@pytest.mark.parametrize("fragment", OBJECTIVES, ids=names)
def test_objective_fragments_state_every_argument(fragment):
    stated = yaml.safe_load(fragment.read_text())
    resolved = parse("--config", CONFIGS / "solopo.yaml", "--model", stated["class_path"])["model"]
    assert set(stated["init_args"]) == set(vars(resolved.init_args)) - LINKED


def objective_class(path):
    """By its short name, or by its full one if the package does not export it."""
    return pkgutil.resolve_name(path) if "." in path else getattr(objectives, path)


def argument_types(cls):
    """Annotations of everything that a class can be given, what it hands on to its parents included."""
    makers = [parent.__init__ for parent in reversed(cls.__mro__) if "__init__" in vars(parent)]
    return {name: kind for maker in makers for name, kind in typing.get_type_hints(maker).items()}


def another(value, kind):
    """A value of the same type that is another."""
    kinds = typing.get_args(kind) or (kind,)
    if PairwiseModule in kinds:
        return {"class_path": "SimPO", "init_args": {"beta": 7.7, "gamma": 7.7}}
    if bool in kinds:
        return not value
    if float in kinds or int in kinds:
        return (value or 0) + 7
    words = [word for choice in kinds for word in (typing.get_args(choice) or (choice,)) if isinstance(word, str)]
    return next(word for word in words if word != value)


# Each comes before one and after another; the rest is slow.
RING = [*itertools.pairwise(OBJECTIVES), (OBJECTIVES[-1], OBJECTIVES[0])]
SWAPS = [
    pair if pair in RING else pytest.param(*pair, marks=pytest.mark.slow)
    for pair in itertools.permutations(OBJECTIVES, 2)
]


@pytest.mark.parametrize(("first", "second"), SWAPS, ids=lambda path: path.stem)
def test_swapping_objectives_never_inherits_a_value(first, second, tmp_path):
    """Every value of the first fragment is changed, so that an inherited one would show."""
    changed = yaml.safe_load(first.read_text())
    types = argument_types(objective_class(changed["class_path"]))
    changed["init_args"] = {name: another(value, types[name]) for name, value in changed["init_args"].items()}
    strange = tmp_path / "first.yaml"
    strange.write_text(yaml.safe_dump(changed))
    model = parse("--config", CONFIGS / "solopo.yaml", "--model", strange, "--model", second)["model"]
    stated = yaml.safe_load(second.read_text())
    assert model.class_path.endswith(stated["class_path"])
    values = {name: value for name, value in vars(model.init_args).items() if name not in LINKED}
    if isinstance(base := values.get("base"), Namespace):
        assert vars(base.init_args) == vars(
            parse("--config", CONFIGS / "solopo.yaml")["model"].init_args.base.init_args
        )
        values["base"] = base.class_path.rpartition(".")[2]
    assert values == stated["init_args"]


def test_the_resolved_configuration_runs_again(tmp_path):
    cli = build("--config", CONFIGS / "solopo.yaml")
    resolved = tmp_path / "config.yaml"
    resolved.write_text(cli.parser.dump(cli.config))
    again = build("--config", resolved)
    assert again.parser.dump(again.config) == cli.parser.dump(cli.config)


@pytest.mark.parametrize("fragment", sorted((CONFIGS / "data").glob("*.yaml")), ids=names)
def test_data_fragments_state_how_rows_are_made(fragment):
    """A row setting of the data before would stay otherwise, for example LOGO's positions."""
    content = yaml.safe_load(fragment.read_text())
    own = inspect.signature(getattr(data_modules, content["class_path"]).__init__).parameters
    wanted = set(inspect.signature(PairDataModule.__init__).parameters) - {"self", "views", "prompt_format"}
    assert set(content["init_args"]) >= (wanted if "rows" in own else set(own) & wanted)  # a mixture has rows alone
