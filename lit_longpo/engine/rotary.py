"""The module that computes a decoder's rotary angles: the one place that exchanges it.

Angles may depend on a sequence's length (dynamic NTK, longrope); then each group gets its own.

transformers computes one set of frequencies for everything in a forward, from the largest position it
has seen, and dynamic NTK remembers the longest one across forwards. In a packed row a short group would
get the frequencies of the long group beside it (measured: 9e-2 relative error of a log-probability), and
a reference scored in another order other ones than its policy. Here every group's angles come from its
own longest sequence and from nothing that was computed before: what a padded batch of that group's rows
gets from a model fresh from disk.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, cast

import torch
from torch import Tensor, nn

from lit_longpo.batch import PackedBatch

LENGTH_DEPENDENT = frozenset({"dynamic", "longrope"})


def depends_on_length(rotary: nn.Module | None) -> bool:
    """Whether a rotary embedding's frequencies change with the length of the sequence."""
    kinds = getattr(rotary, "rope_type", ())
    return bool(LENGTH_DEPENDENT & set(kinds.values() if isinstance(kinds, dict) else [kinds]))


def rotary_embedding(decoder: nn.Module) -> nn.Module | None:
    """The module that computes the angles of all layers; `None` if a decoder has none, or several."""
    name = _rotary_name(decoder)
    return None if name is None else cast(nn.Module, getattr(decoder, name))


def _rotary_name(decoder: nn.Module) -> str | None:
    """Where it is, most often `rotary_emb`.

    Granite SWA has one for each base beside one that is never asked, Moshi one in each layer.
    """
    named = decoder.named_modules()
    found = [name for name, module in named if any("inv_freq" in buffer for buffer in module._buffers)]
    if not found:  # frequencies under another name
        return "rotary_emb" if hasattr(decoder, "rotary_emb") else None
    return found[0] if len(found) == 1 and "." not in found[0] else None


def angles_problem(decoder: nn.Module) -> str | None:
    """Why a decoder cannot be scored at all: length-dependent angles are computed in a place we do not know.

    `None` if that is not so.
    """
    if rotary_embedding(decoder) is not None or not any(map(depends_on_length, decoder.modules())):
        return None
    return (
        "its rotary angles depend on the length of a sequence, and more than one module computes them; set a type that "
        "does not (`rope_type` in its config.json, or `policy.rope.type`): yarn or linear"
    )


@contextmanager
def exchanged_rotary(decoder: nn.Module, rotary: nn.Module) -> Iterator[None]:
    """Inside the block another module computes the angles of a decoder that has one."""
    name = cast(str, _rotary_name(decoder))
    before = getattr(decoder, name)
    setattr(decoder, name, rotary)
    try:
        yield
    finally:
        setattr(decoder, name, before)


@contextmanager
def _recomputed(decoder: nn.Module, by: Callable[[nn.Module], nn.Module]) -> Iterator[None]:
    """Inside the block, what is made of a decoder's module computes its angles, if these depend on a length."""
    rotary = rotary_embedding(decoder)
    if rotary is None or not depends_on_length(rotary):
        yield
        return
    with exchanged_rotary(decoder, by(rotary)):
        yield


def fresh_angles(decoder: nn.Module) -> AbstractContextManager[None]:
    """Inside the block, angles of a length-dependent kind know nothing of what was computed before."""

    def fresh(rotary: nn.Module) -> nn.Module:
        return cast(nn.Module, cast(Any, type(rotary))(rotary.config).to(next(decoder.parameters()).device))

    return _recomputed(decoder, fresh)


def angles_by_group(decoder: nn.Module, row: PackedBatch, span: slice) -> AbstractContextManager[None]:
    """Inside the block, angles of a length-dependent kind follow each group's own length.

    Args:
        decoder: a transformers decoder.
        row: the row that is about to be computed.
        span: those of its tokens that the decoder is given; a group may have others on other ranks.
    """
    return _recomputed(decoder, lambda rotary: _AnglesByGroup(rotary, row, span))


def angles_up_to(decoder: nn.Module, furthest: Tensor) -> AbstractContextManager[None]:
    """Inside the block, angles of a length-dependent kind are those of a sequence that reaches a position.

    So a response that is computed alone gets the angles that it has beside longer ones.

    Args:
        decoder: a transformers decoder that is given one sequence, with its positions.
        furthest: the position. Shape: (1, 1).
    """
    return _recomputed(decoder, lambda rotary: _AnglesUpTo(rotary, furthest))


Angles = Tensor | tuple[Tensor, ...]  # cosines and sines, or complex numbers (DeepSeek-V2, Llama 4). Shape: (..., T, D)


class _AnglesByGroup(nn.Module):
    """Angles of a span of a packed row, from whole groups."""

    def __init__(self, rotary: nn.Module, row: PackedBatch, span: slice) -> None:
        super().__init__()
        self.kind, self.config, self.span = type(rotary), rotary.config, span
        self.groups = row.position_ids.split(row.table.group_lengths, dim=1)

    def forward(self, hidden: Tensor, position_ids: Tensor, *options: Any) -> Angles:
        """Angles of the span's positions of shape (..., 1, t); further arguments (a layer type) are handed on."""
        groups = [group.expand(*position_ids.shape[:-1], -1) for group in self.groups]
        parts = [self.kind(self.config).to(hidden.device)(hidden, group, *options) for group in groups]
        if isinstance(parts[0], Tensor):
            return torch.cat(parts, dim=-2)[..., self.span, :]
        return tuple(torch.cat(each, dim=-2)[..., self.span, :] for each in zip(*parts, strict=True))


class _AnglesUpTo(nn.Module):
    """Angles of one sequence, as of one that reaches further."""

    def __init__(self, rotary: nn.Module, furthest: Tensor) -> None:
        super().__init__()
        self.kind, self.config, self.furthest = type(rotary), rotary.config, furthest

    def forward(self, hidden: Tensor, position_ids: Tensor, *options: Any) -> Angles:
        """Angles of positions of shape (..., 1, K); further arguments (a layer type) are handed on."""
        positions = torch.cat([position_ids, self.furthest.expand(*position_ids.shape[:-1], -1)], dim=-1)
        found = self.kind(self.config).to(hidden.device)(hidden, positions, *options)
        return found[..., :-1, :] if isinstance(found, Tensor) else tuple(each[..., :-1, :] for each in found)
