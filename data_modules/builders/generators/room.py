"""Splits requests into those that fit a local model's window, and failures for the others."""

from collections.abc import Callable, Sequence

from data_modules.builders.generators.requests import Completion, Request


def part_by_room(
    requests: Sequence[Request], window: int | None, count: Callable[[Request], int]
) -> tuple[list[Request], list[Completion]]:
    """(requests that fit, failures of those that do not).

    Beyond its window a model with rotary positions answers nonsense, one with learned positions cannot answer, and an
    engine gives up all other requests, too (vllm#16732).

    Args:
        requests: in any order, which those that fit keep.
        window: positions of the model, for prompt and answer; `None` if it does not say.
        count: tokens of a request's prompt.
    """
    fitting, failures = list[Request](), list[Completion]()
    for request in requests:
        room, tokens = request.decoding.max_new_tokens, 0 if window is None else count(request)
        if window is None or tokens + room <= window:
            fitting.append(request)
        else:
            error = (
                f"a prompt of {tokens:,} tokens and {room:,} of an answer exceed the {window:,} positions that the "
                "model reads; lower `max_new_tokens`, shorten the documents, or stretch the model (`policy.rope`)"
            )
            failures.append(Completion(request.id, "", prompt_tokens=tokens, error=error))
    return fitting, failures
