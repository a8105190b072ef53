"""Rows whose prompts and responses have words of their own, so that what a response depends on can be seen.

Rows of the embeddings whose words it must not see get a gradient of exactly zero, and other words there change nothing.
"""

from collections.abc import Callable
from dataclasses import replace
from itertools import accumulate

import torch
from support.tiny_hybrids import SHARED, tiny_hybrid
from support.tiny_models import ARCHITECTURES, tiny_model
from torch import Tensor, distributed, nn

from lit_longpo.batch import Group, Response
from lit_longpo.engine import pack, sequence_ranks, set_sequence_group
from lit_longpo.engine.decoder import base_model
from lit_longpo.engine.routers import routers
from lit_longpo.engine.scoring import row_log_probs
from lit_longpo.engine.sequential.sequences import score_packed

SIZES = [(21, [5, 9]), (7, [3]), (18, [4, 2])]  # longer and shorter than the windows and chunks of the twins
NUM_PARTS = 8  # prompts and responses
# Experts take their tokens together, so that how many of others there are moves the last digit of a product.
ROUNDING = 1e-5


def words(part: int) -> range:
    """Of a prompt or response, numbered as they stand in the row: no other has them."""
    return range(3 + 11 * part, 14 + 11 * part)


def text(part: int, size: int) -> tuple[int, ...]:
    return tuple(words(part)[(3 * place + place * place) % 11] for place in range(size))


def told_apart(*, shared: bool = True, leap: bool = False) -> tuple[list[Group], list[set[int]]]:
    """Groups; and of each response the parts that it may see: its prompt and itself.

    Args:
        shared: whether responses share their prompt, or each has a copy of its own.
        leap: whether positions leap in mid-prompt.
    """
    groups, seen = [], list[set[int]]()
    prompts = [0, *accumulate(1 + len(sizes) for _, sizes in SIZES)]
    for name, (prompt, (length, sizes)) in enumerate(zip(prompts, SIZES, strict=False)):
        responses = []
        for index, size in enumerate(sizes):
            ids = text(prompt + 1 + index, size)
            responses.append(Response("rejected" if index else "chosen", ids, (True,) * size, 0))
            seen.append({prompt, prompt + 1 + index})
        positions = tuple(p if p < length // 2 else p + 40 for p in range(length)) if leap else None
        parts = [tuple(responses)] if shared else [(response,) for response in responses]
        groups += [Group(f"record-{name}", "long", text(prompt, length), part, positions) for part in parts]
    return groups, seen


def chained() -> tuple[list[Group], list[set[int]]]:
    """Groups of which two begin in one part and go on in others; and of each response the parts that it may see."""
    prompts = {"first": (0, 1), "second": (0, 4), "alone": (6,)}
    answers = {"first": (2, 3), "second": (5,), "alone": (7,)}
    groups, seen = [], list[set[int]]()
    for name, parts in prompts.items():
        ids = tuple(token for part in parts for token in text(part, 10))
        responses = [
            Response("rejected" if n else "chosen", text(part, 4 + n), (True,) * (4 + n), 0)
            for n, part in enumerate(answers[name])
        ]
        groups.append(Group(name, "long", ids, tuple(responses)))
        seen += [{*parts, part} for part in answers[name]]
    return groups, seen


def changed(group: Group, part: int) -> Group:
    """With other words of its own in one prompt or response."""
    own = words(part)

    def other(ids: tuple[int, ...]) -> tuple[int, ...]:
        return tuple(own[(token - own.start + 4) % 11] if token in own else token for token in ids)

    responses = tuple(replace(response, token_ids=other(response.token_ids)) for response in group.responses)
    return replace(group, prompt_ids=other(group.prompt_ids), responses=responses)


def untied(name: str) -> nn.Module:
    """A family's twin in packed rows where it can be; a head that is the embeddings would reach the words of all."""
    model = (tiny_model if name in ARCHITECTURES else tiny_hybrid)(name, tie_word_embeddings=False).eval()
    if name in SHARED:
        score_packed(model)
    return model


def log_probs(model: nn.Module, groups: list[Group]) -> list[Tensor]:
    """Of each response's tokens, in a row that holds beginnings of 10 tokens once, which only `chained` groups have."""
    sizes = [len(response.token_ids) for group in groups for response in group.responses]
    names = [group.example for group in groups]
    row = pack(groups, shared_from=10 if "second" in names else None)
    assert (row.sharing is not None) == ("second" in names)
    return list(row_log_probs(model, row).split(sizes))


def assert_no_gradient_leaks(
    model: nn.Module,
    groups: list[Group],
    seen: list[set[int]],
    *,
    join: Callable[[Tensor], Tensor] = lambda own: own,
    once: bool = False,
) -> None:
    """Of each response's log-probability.

    Args:
        model: of a twin.
        groups: as `told_apart` makes them.
        seen: likewise.
        join: adds up what several processes have of a gradient.
        once: whether there is one backward through a forward, as where attention is kept and all else made again.
    """
    table = base_model(model).get_input_embeddings().weight
    values = log_probs(model, groups)
    for number in range(len(seen)):
        values = log_probs(model, groups) if once else values
        gradient = join(torch.autograd.grad(values[number].sum(), table, retain_graph=not once)[0])
        reached = {part for part in range(NUM_PARTS) if gradient[list(words(part))].abs().max() > 0}
        assert reached == seen[number], f"response {number} depends on {reached} and sees {seen[number]}"


@torch.no_grad()
def assert_no_value_leaks(
    model: nn.Module, groups: list[Group], seen: list[set[int]], parts: tuple[int, ...] = tuple(range(NUM_PARTS))
) -> None:
    """Other words in each of some parts move the responses that see it, and no other."""
    tolerance = ROUNDING if routers(base_model(model)) else 0.0
    before = log_probs(model, groups)
    for part in parts:
        after = log_probs(model, [changed(group, part) for group in groups])
        for own, one, other in zip(seen, before, after, strict=True):
            moved = float((other - one).abs().max() / one.abs().max())
            assert moved > 1e-4 if part in own else moved <= tolerance, (part, own, moved)


def share_rows(name: str) -> None:
    """What a process of several that share each row runs; it fails where one sees what it must not."""
    distributed.init_process_group("gloo")
    set_sequence_group(distributed.group.WORLD)
    assert sequence_ranks().size == distributed.get_world_size() > 1

    def join(gradient: Tensor) -> Tensor:
        distributed.all_reduce(gradient)
        return gradient

    model = untied(name)
    assert_no_gradient_leaks(model, *told_apart(leap=True), join=join)
    assert_no_value_leaks(model, *told_apart(leap=True))
    assert_no_gradient_leaks(model, *chained(), join=join)
    distributed.destroy_process_group()
