"""One side in this process: `python -m benchmarks.side NAME SETTING` prints its result as one line of JSON."""

import json
import sys
from collections.abc import Callable
from typing import Any

from benchmarks import head, ours, parity
from benchmarks.setting import Setting


def _trl(setting: Setting) -> dict[str, Any]:
    from benchmarks import trl_side

    return trl_side.run(setting, compact=False)


def _trl_compact(setting: Setting) -> dict[str, Any]:
    from benchmarks import trl_side

    return trl_side.run(setting, compact=True)


def _reference_cache(setting: Setting) -> dict[str, Any]:
    from benchmarks import upkeep

    return upkeep.reference_cache(setting)


def _data_speed(setting: Setting) -> dict[str, Any]:
    from benchmarks import upkeep

    return upkeep.data_speed(setting)


def _ceiling(setting: Setting) -> dict[str, Any]:
    from benchmarks import ceiling

    return ceiling.measure(setting)


SIDES: dict[str, Callable[[Setting], dict[str, Any]]] = {
    "ours": ours.run,
    "trl": _trl,
    "trl_compact": _trl_compact,
    "head_ours": lambda setting: head.run(setting, head.ours),
    "head_trl": lambda setting: head.run(setting, head.trl),
    "parity": parity.run,
    "reference_cache": _reference_cache,
    "data_speed": _data_speed,
    "ceiling": _ceiling,
}


def main() -> None:
    name, setting = sys.argv[1], Setting.loads(sys.argv[2])
    print(json.dumps(SIDES[name](setting)))


if __name__ == "__main__":
    main()
