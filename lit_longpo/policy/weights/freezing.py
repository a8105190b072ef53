"""Which weights are trained, chosen by their names."""

import difflib
import logging
import re
from collections.abc import Iterable, Sequence

from torch import Tensor, nn

from lit_longpo.errors import InputError

log = logging.getLogger(__name__)


def freeze_weights(model: nn.Module, train_only: Sequence[str], frozen: Sequence[str]) -> None:
    """Leave some weights as they are; tied weights are one, by whatever name.

    Args:
        model: all of whose weights are trained; changed in place.
        train_only: parts of the names of what is trained; none means everything.
        frozen: parts of the names of what is not.

    Raises:
        InputError: a part is in no name, or nothing is left to train.
    """
    if not train_only and not frozen:
        return
    trained, parameters = trained_weights(model, train_only, frozen), list(model.parameters())
    for parameter in parameters:
        parameter.requires_grad_(id(parameter) in trained)
    log.info("%d of %d weights are trained, the others frozen", len(trained), len(parameters))


def trained_weights(model: nn.Module, train_only: Sequence[str], frozen: Sequence[str]) -> set[int]:
    """Which weights `freeze_weights` leaves to be trained, by `id`; nothing is changed.

    Raises:
        InputError: see there.
    """
    parameters = dict(model.named_parameters(remove_duplicate=False))
    chosen = _chosen(parameters, train_only, "policy.train_only") if train_only else set(parameters)
    left_out = _chosen(parameters, frozen, "policy.freeze")
    trained = {id(parameters[name]) for name in chosen} - {id(parameters[name]) for name in left_out}
    if not trained:
        raise InputError(
            f"expected weights to train, got `policy.train_only: {list(train_only)}` and `policy.freeze: "
            f"{list(frozen)}`, which leave none; name fewer in --policy.freeze"
        )
    return trained


def names_with(names: Iterable[str], part: str, setting: str) -> list[str]:
    """The names that hold a part; `*` in it stands for anything, and a number is a whole number.

    Raises:
        InputError: none does; the nearest are named.
    """
    names = list(names)
    pattern = ".*".join(map(re.escape, part.split("*")))
    whole = re.compile(
        ("(?<!\\d)" if part[:1].isdigit() else "") + pattern + ("(?!\\d)" if part[-1:].isdigit() else "")
    )
    matching = [name for name in names if part and whole.search(name)]
    if not matching:
        raise InputError(
            f"expected `{setting}` to hold parts of this model's parameter names, got {part!r}; {_nearest(part, names)}"
        )
    return matching


def _chosen(names: Iterable[str], parts: Iterable[str], setting: str) -> set[str]:
    return {name for part in parts for name in names_with(names, part, setting)}


def _nearest(part: str, names: list[str]) -> str:
    words = {word for name in names for word in name.split(".") if not word.isdigit()}
    near = {match for word in part.split(".") for match in difflib.get_close_matches(word, words, n=2)}
    hint = f"did you mean {' or '.join(sorted(near))}? " if near else ""
    return f"{hint}names look like {names[0]!r} and {names[-1]!r}"


def log_size(model: nn.Module) -> None:
    """Say how many parameters a policy has, and how many are trained."""
    sizes = [(_num_elements(parameter), parameter.requires_grad) for parameter in model.parameters()]
    total, trained = sum(size for size, _ in sizes), sum(size for size, is_trained in sizes if is_trained)
    dtypes = sorted({str(parameter.dtype).removeprefix("torch.") for parameter in model.parameters()})
    log.info("policy: %s parameters, %s trained (%s)", f"{total:,}", f"{trained:,}", ", ".join(dtypes))


def _num_elements(parameter: Tensor) -> int:
    """Of the whole parameter: ZeRO-3 has split it, or two 4-bit weights share a byte."""
    state = getattr(parameter, "quant_state", None)
    return int(getattr(parameter, "ds_numel", parameter.numel() if state is None else state.shape.numel()))
