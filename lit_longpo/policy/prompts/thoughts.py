"""Separates thoughts, between `<think>` and `</think>`, from answers; some prompts open the thoughts themselves.

Some think again between parts of an answer, some write a `</think>` too many. The answer is behind the last one, as
Qwen3's and DeepSeek-R1's templates and lm-evaluation-harness take it. What ends an answer (a stop text, a newline)
ends it at its first place outside of all thoughts, whatever comes later: there a model that writes would have ended.
"""

THINKS, THOUGHT = "<think>", "</think>"


def without_thoughts(text: str, *, opened: bool = False) -> str:
    """What a reply says behind its last thoughts, stripped; the reply unchanged if it has none.

    Args:
        text: of a model that may think.
        opened: whether the prompt opened thoughts (see `opens_thoughts`).

    Returns:
        The answer; empty if the reply was cut off in its thoughts.
    """
    if not has_thoughts(text, opened=opened):
        return text
    parts = spoken(text, opened=opened)
    return text[slice(*parts[-1])].rpartition(THOUGHT)[2].strip() if parts else ""


def spoken(text: str, *, opened: bool = False) -> list[tuple[int, int]]:
    """Start and end of every part of a reply outside of thoughts; nothing if it was cut off in its first thoughts."""
    if not has_thoughts(text, opened=opened):
        return [(0, len(text))]
    parts, closed = list[tuple[int, int]](), text.find(THOUGHT)
    while closed >= 0:
        start = closed + len(THOUGHT)
        again = text.find(THINKS, start)
        parts.append((start, len(text) if again < 0 else again))
        closed = text.find(THOUGHT, parts[-1][1])
    return parts


def has_thoughts(text: str, *, opened: bool = False) -> bool:
    """Whether a reply thinks: it begins so, or ends thoughts."""
    return opened or THOUGHT in text or text.lstrip().startswith(THINKS)


def is_thinking(text: str, *, opened: bool = False) -> bool:
    """Whether a reply is in thoughts at its end."""
    parts = spoken(text, opened=opened)
    return not parts or parts[-1][1] < len(text)


def opens_thoughts(prompt: str) -> bool:
    """Whether a prompt ends in opened thoughts, as DeepSeek-R1's and QwQ's do."""
    return prompt.rstrip().endswith(THINKS)


def parted(opening: str) -> tuple[str, str]:
    """The text that opens an answer, split into the turn's marks and finished thoughts, if any (Qwen3's are empty)."""
    marks, thinks, rest = opening.partition(THINKS)
    return marks, thinks + rest if THOUGHT in rest else ""
