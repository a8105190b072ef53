"""Groups for tests: drawn from a seed, or by hypothesis."""

import random

from hypothesis import strategies as st

from lit_longpo.batch import Group, Response

VOCAB = 96


def random_groups(sizes: list[tuple[int, list[int]]], *, jump: bool = False, seed: int = 0) -> list[Group]:
    """One group per (prompt length, response lengths); with `jump` positions leap by 40 in mid-prompt."""
    draw = random.Random(seed)

    def tokens(count: int) -> tuple[int, ...]:
        return tuple(draw.randrange(3, VOCAB) for _ in range(count))

    groups = []
    for number, (length, responses) in enumerate(sizes):
        made = tuple(
            Response("rejected" if index else "chosen", tokens(size), (True,) * size, max(0, index - 1))
            for index, size in enumerate(responses)
        )
        positions = tuple(p if p < length // 2 else p + 40 for p in range(length)) if jump else None
        groups.append(Group(f"record-{number}", "long", tokens(length), made, positions))
    return groups


@st.composite
def responses(draw: st.DrawFn, role: str, index: int) -> Response:
    """A response whose mask hides some, never all, of its tokens."""
    size = draw(st.integers(1, 6))
    token_ids = draw(st.tuples(*[st.integers(0, VOCAB - 1)] * size))
    mask = draw(st.tuples(*[st.booleans()] * size).filter(any))
    return Response(role, token_ids, mask, index)  # type: ignore[arg-type]


@st.composite
def groups(draw: st.DrawFn, example: str) -> Group:
    size = draw(st.integers(1, 8))
    prompt = draw(st.tuples(*[st.integers(0, VOCAB - 1)] * size))
    steps = draw(st.none() | st.tuples(*[st.integers(1, 50)] * size))
    positions = None if steps is None else tuple(sum(steps[: n + 1]) for n in range(size))
    count = draw(st.integers(0, 3))
    answers = [draw(responses("chosen", 0)), *[draw(responses("rejected", n)) for n in range(count)]]
    context = draw(st.sampled_from(["short", "long"]))
    counted = draw(st.none() | st.tuples(*[st.booleans()] * (size + len(answers[0].token_ids))))
    sequence = draw(st.booleans())
    return Group(
        example,
        context,
        prompt,
        tuple(answers),
        positions,
        score_sequence=sequence,
        sequence_mask=counted if sequence else None,
    )


@st.composite
def batches(draw: st.DrawFn) -> list[Group]:
    return [draw(groups(f"record-{number}")) for number in range(draw(st.integers(1, 4)))]
