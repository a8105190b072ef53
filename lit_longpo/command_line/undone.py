"""Names what a file or option does to another: adapters and callbacks that go, an order of examples that stays."""

import shlex
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import yaml
from jsonargparse import Namespace

from lit_longpo.command_line.precedence import name_of, options_of
from lit_longpo.files.plain_yaml import settings_in


class _AsTyped(yaml.SafeDumper):
    """Texts without quotes, where they need none to be read as texts again (`settings_in` has no numbers)."""

    yaml_implicit_resolvers: ClassVar[dict[str, Any]] = {}


def undone(values: Namespace, words: Sequence[str], files: Sequence[Path]) -> Iterator[str]:
    """What is to be said of a training; nothing of commands that train nothing."""
    if "optimization" not in values:
        return
    typed = {name_of(option) for option in options_of(words)}
    contents = {path: settings_in(path) for path in files}
    if "policy.lora" not in typed and (found := _no_adapters(values, contents)) is not None:
        yield found
    if (found := _same_order(values, typed)) is not None:
        yield found
    inside = any("callbacks" in _section(content, "trainer") for content in contents.values())
    if (inside or "trainer.callbacks" in typed) and (found := _lost_callbacks(values, contents)) is not None:
        yield found


def _same_order(values: Namespace, typed: Collection[str]) -> str | None:
    """In other trainers a run's seed shuffles, too; here the data have their own, which recipes state."""
    seed, order = values.get("seed_everything"), values.get("data.init_args.seed")
    if "seed_everything" not in typed or {"data.seed", "data.init_args.seed"} & set(typed) or order in (None, seed):
        return None
    if isinstance(seed, bool):  # which seed is Lightning's choice
        return None
    return (
        f"`seed_everything: {seed}` leaves the order of the examples, and which are held out, as "
        f"`data.init_args.seed: {order}` has them; type --data.seed {seed}, too, for a run that differs in these"
    )


def _no_adapters(values: Namespace, contents: Mapping[Path, dict[str, Any]]) -> str | None:
    """A fragment of a model states all of `policy`, `lora: null` too."""
    found = {path: _stated(content, "policy", "lora") for path, content in contents.items()}
    stated = {path: lora for path, lora in found.items() if isinstance(lora, dict)}
    if not stated or values.get("policy.lora") is not None:
        return None
    path, lora = list(stated.items())[-1]
    settings = yaml.dump(lora, Dumper=_AsTyped, default_flow_style=True, width=1000, sort_keys=False).strip()
    return (
        f"`policy.lora` is null, where {path.name} has {settings}: no adapters are made; type --policy.lora "
        f"{shlex.quote(settings)} to train them, or --policy.lora null if so meant"
    )


def _lost_callbacks(values: Namespace, contents: Mapping[Path, dict[str, Any]]) -> str | None:
    """A list in a file or behind `--trainer.callbacks` replaces the one before."""
    kept = {_class(one) for one in _listed(values.get("trainer.callbacks"))}
    stated = [_class(one) for content in contents.values() for one in _listed(_stated(content, "trainer", "callbacks"))]
    lost = [name for name in dict.fromkeys(stated) if name not in kept]
    if not lost or not kept:  # null says so
        return None
    return (
        f"`trainer.callbacks` is {', '.join(sorted(kept))} in place of the list before, without "
        f"{', '.join(lost)}; to add to that list type --trainer.callbacks+, or `callbacks+:` in a file"
    )


def _stated(content: dict[str, Any], section: str, name: str) -> Any:
    """What a file says of a setting: one of several sections, or a fragment of that one."""
    return _section(content, section).get(name, content.get(name))


def _section(content: dict[str, Any], name: str) -> dict[str, Any]:
    return section if isinstance(section := content.get(name), dict) else {}


def _listed(value: Any) -> list[Any]:
    if isinstance(value, list):
        return value
    return [] if value in (None, "null", "") else [value]


def _class(one: Any) -> str:
    """The short name of a class that a list names, by a path, by a section or as it is parsed."""
    return str(one.get("class_path") if isinstance(one, dict | Namespace) else one).rpartition(".")[2]
