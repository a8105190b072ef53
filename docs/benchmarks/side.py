"""One side in this process: `python -m benchmarks.side NAME SETTING` prints its result as one line of JSON."""

import json
import sys
from collections.abc import Callable
from importlib import import_module
from typing import Any

from benchmarks import head, ours
from benchmarks.setting import Setting

Run = Callable[[Setting], dict[str, Any]]


def _later(module: str, function: str, **more: Any) -> Run:
    """A function of a module that is imported when it runs, as not every side needs TRL or Lightning."""
    return lambda setting: getattr(import_module(f"benchmarks.{module}"), function)(setting, **more)


SIDES: dict[str, Run] = {
    "ours": ours.run,
    "trl": _later("trl_side", "run", compact=False),
    "trl_compact": _later("trl_side", "run", compact=True),
    "head_ours": lambda setting: head.run(setting, head.ours),
    "head_trl": lambda setting: head.run(setting, head.trl),
    "reference_cache": _later("upkeep", "reference_cache"),
    "data_speed": _later("upkeep", "data_speed"),
    "ceiling": _later("ceiling", "measure"),
}


def main() -> None:
    name, setting = sys.argv[1], Setting.loads(sys.argv[2])
    print(json.dumps(SIDES[name](setting)))


if __name__ == "__main__":
    main()
