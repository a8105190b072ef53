"""What models think before they answer, between `<think>` and `</think>`; some prompts open the thoughts themselves."""

THINKS, THOUGHT = "<think>", "</think>"


def without_thoughts(text: str, *, opened: bool = False) -> str:
    """What a reply says behind its thoughts, as it stands where there are none.

    Args:
        text: of a model that may think.
        opened: whether the prompt opened thoughts (see `opens_thoughts`).

    Returns:
        The answer; empty if the reply was cut off in its thoughts.
    """
    if not has_thoughts(text, opened=opened):
        return text
    if opened and THOUGHT not in text:
        return ""
    return text.rpartition(THOUGHT)[2].partition(THINKS)[0].strip()


def has_thoughts(text: str, *, opened: bool = False) -> bool:
    """Whether a reply thinks: it begins so, or ends thoughts.

    Args:
        text: of a model.
        opened: whether the prompt opened thoughts.
    """
    return opened or THOUGHT in text or text.lstrip().startswith(THINKS)


def answer_start(text: str, *, opened: bool = False) -> int | None:
    """Where the answer begins behind the thoughts; `None` if these are not over.

    Args:
        text: of a model, perhaps not at its end.
        opened: whether the prompt opened thoughts.
    """
    if THOUGHT in text:
        return text.index(THOUGHT) + len(THOUGHT)
    return None if has_thoughts(text, opened=opened) else 0


def opens_thoughts(prompt: str) -> bool:
    """Whether a prompt ends in opened thoughts, as DeepSeek-R1's and QwQ's do.

    Args:
        prompt: text of its last tokens.
    """
    return prompt.rstrip().endswith(THINKS)


def parted(opening: str) -> tuple[str, str]:
    """What a template opens an answer with: the turn's marks, and whole thoughts if it writes some (Qwen3's empty).

    Args:
        opening: the whole of it.
    """
    marks, thinks, rest = opening.partition(THINKS)
    return marks, thinks + rest if THOUGHT in rest else ""
