"""The architecture that a plan is for: the model's own configuration, or a shape that is built in."""

import json
from pathlib import Path
from typing import Any

from transformers import AutoConfig, PretrainedConfig

from lit_longpo.errors import InputError, MissingFileError
from lit_longpo.policy import PolicyConfig
from lit_longpo.policy.weights.dropout import turn_off
from lit_longpo.policy.weights.reading import check_kind

_SHAPES = Path(__file__).parents[1] / "shapes"


def shape_names() -> list[str]:
    """Built-in shapes; they bear the names of the fragments in `configs/model`."""
    return sorted(path.stem for path in _SHAPES.glob("*.json"))


def built_in(name: str) -> dict[str, Any]:
    """A built-in shape: `source` (hub name), `parameters` (its published number) and `config`."""
    return json.loads((_SHAPES / f"{name}.json").read_text())


def find_config(policy: PolicyConfig, shape: str | None) -> tuple[PretrainedConfig, str]:
    """The policy's configuration, its rotary changes applied, and where it came from.

    Args:
        policy: what is trained.
        shape: a built-in shape's name or a `config.json`, used in place of the policy's; `None` reads the source,
            except that the hub is not asked for models whose shape is built in.

    Raises:
        InputError: the source is not there and its shape is unknown; there is no such shape; or it is none of a model
            that `fit` would train.
    """
    known = {built_in(name)["source"]: name for name in shape_names()}
    if shape is None and policy.source in known:
        shape = known[policy.source]
    config, where = _read(policy) if shape is None else _shaped(shape)
    check_kind(config, where)  # as where the policy is loaded
    turn_off(config)
    if policy.rope is not None:
        policy.rope.apply(config)
    text = config.get_text_config()
    text.vocab_size = max(text.vocab_size, _rows_for_tokens(policy, text.vocab_size))
    return config, where


def _rows_for_tokens(policy: PolicyConfig, rows: int) -> int:
    """Rows of embeddings with `added_tokens`; the most there may be if no tokenizer is at hand."""
    asked = len(policy.added_tokens) + len(policy.added_special_tokens)
    try:
        return max(policy.new_tokens().values(), default=-1) + 1
    except MissingFileError:
        return rows + asked


def _read(policy: PolicyConfig) -> tuple[PretrainedConfig, str]:
    try:
        return policy.original_config(), policy.source
    except OSError as error:
        raise InputError(
            f"expected a configuration at `policy.source: {policy.source}`, got none ({str(error).splitlines()[0]}); "
            f"name its architecture with --shape: a config.json, or one of {', '.join(shape_names())}"
        ) from error


def _shaped(shape: str) -> tuple[PretrainedConfig, str]:
    if shape in shape_names():
        return AutoConfig.for_model(**built_in(shape)["config"]), f"built-in shape {shape}"
    path = Path(shape).expanduser()
    if not path.exists():
        raise InputError(
            f"expected `--shape` to be a config.json or one of {', '.join(shape_names())}, got {shape!r}, which is "
            "neither"
        )
    return AutoConfig.from_pretrained(str(path), trust_remote_code=False), str(path)  # `None` asks at a terminal
