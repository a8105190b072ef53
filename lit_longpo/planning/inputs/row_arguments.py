"""The arguments of a data module that a plan reads: how its rows are filled."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from lit_longpo.planning.inputs.sharding import init_args


@dataclass(frozen=True)
class RowArguments:
    """What a plan reads of a data module's arguments, under the names that `data_modules` gives them.

    Args:
        max_tokens: of a row; `None` means that the data module has no such argument.
        positions: synthesised ones, with their `target_length`.
        share_prompts: which prompts of a row share their beginnings.
    """

    max_tokens: int | None = None
    max_length: int | None = None
    max_examples: int | None = None
    prefix_sharing: bool = True
    positions: Mapping[str, Any] | None = None
    share_prompts: str | None = None

    @classmethod
    def read(cls, arguments: Mapping[str, Any]) -> "RowArguments":
        """From all arguments of the data module, as the command line has parsed them."""
        names = [part.name for part in fields(cls)]
        of_sources = [init_args(source) for source in (arguments.get("sources") or {}).values()]
        own = {name: arguments[name] for name in names if arguments.get(name) is not None}
        return cls(**{**_together(of_sources), **own})

    @property
    def synthesises_positions(self) -> bool:
        """Whether long prompts are stretched."""
        return self.positions is not None and self.positions.get("scheme") != "none"

    @property
    def target_length(self) -> int:
        """What synthesised positions reach; 0 if there are none."""
        return int((self.positions or {}).get("target_length") or 0)


def _together(sources: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What sources of a mixture say about the rows that they share: the longest sequence, any positions."""
    if not sources:
        return {}
    lengths = [length for source in sources if (length := source.get("max_length")) is not None]
    positions = [found for source in sources if (found := source.get("positions")) is not None]
    return {
        "max_length": max(lengths) if len(lengths) == len(sources) else None,
        "positions": positions[0] if positions else None,
        "prefix_sharing": all(source.get("prefix_sharing", True) for source in sources),
    }
