"""Separates thoughts, between `<think>` and `</think>`, from answers; some prompts open the thoughts themselves.

Some think again between parts of an answer, some write a `</think>` too many. The answer is behind the last one, as
Qwen3's and DeepSeek-R1's templates and lm-evaluation-harness take it. What ends an answer (a stop text, a newline)
ends it at its first place outside of all thoughts, whatever comes later: there a model that writes would have ended.

Some have other marks, which nobody took away: those that are known are thoughts where they wrap the beginning of a
reply, and the answer is behind the first mark that ends those (openhuman#6184, Primer#109). Marks that are not known
are a part of the answer, which is told (`unknown_marks`).
"""

import re

from lit_longpo.policy.prompts.rendered import Span

THINKS, THOUGHT = "<think>", "</think>"
_TAGS = ("think", "thinking", "thoughts", "thought", "reasoning", "seed:think")
# What begins and what ends thoughts. Of gpt-oss also what is left of its marks without special tokens (verl#1724).
_OTHERS = tuple(
    (re.compile(rf"\s*{begins}", re.DOTALL), re.compile(ends))
    for begins, ends in (
        *((rf"(?i:<{tag}>)", rf"(?i:</{tag}>|</think>)|(?=<answer>)") for tag in _TAGS),
        *((rf"\[{tag}\]", rf"\[/{tag}\]") for tag in ("THINK", "THINKING")),  # "[Reasoning] ..." is a heading
        ("\u25c1think\u25b7", "\u25c1/think\u25b7"),  # Kimi's
        (r"<\|START_THINKING\|>", r"<\|END_THINKING\|>(?:<\|START_(?:RESPONSE|TEXT)\|>)?"),  # Command A's
        (r"(?=<\|START_(?:RESPONSE|TEXT)\|>)", r"<\|START_(?:RESPONSE|TEXT)\|>"),  # without thoughts
        (r"<\|channel>(?:thought\n)?", r"<channel\|>"),  # Gemma 4's
        (
            r"(?:<\|start\|>assistant)?<\|channel\|>(?:analysis<\|message\|>)?",
            r"(?:<\|end\|>)?(?:<\|start\|>assistant)?<\|channel\|>final[^<]*(?:<\|constrain\|>[^<]*)?<\|message\|>",
        ),
        (r"analysis(?=.*assistantfinal)", "assistantfinal"),
    )
)
_UNKNOWN = re.compile(r"\s*([<\[])([a-z]\w*)([>\]])(?=.*?\1/\2\3)", re.DOTALL | re.IGNORECASE)


def without_thoughts(text: str, *, opened: bool = False) -> str:
    """What a reply says behind its last thoughts, which the prompt may have opened, stripped; all of it if it has none.

    Returns:
        The answer; empty if the reply was cut off in its thoughts.
    """
    if not has_thoughts(text, opened=opened):
        return text
    parts = spoken(text, opened=opened)
    return text[slice(*parts[-1])].rpartition(THOUGHT)[2].strip() if parts else ""


def spoken(text: str, *, opened: bool = False) -> list[Span]:
    """Start and end of every part of a reply outside of thoughts; nothing if it was cut off in its first thoughts."""
    if not has_thoughts(text, opened=opened):
        return [(0, len(text))]
    if marks := _other_marks(text, opened=opened):
        return [(marks[1].end(), len(text))] if marks[1] else []
    parts, closed = list[Span](), text.find(THOUGHT)
    while closed >= 0:
        start = closed + len(THOUGHT)
        again = text.find(THINKS, start)
        parts.append((start, len(text) if again < 0 else again))
        closed = text.find(THOUGHT, parts[-1][1])
    return parts


def has_thoughts(text: str, *, opened: bool = False) -> bool:
    """Whether a reply thinks: it begins so, or ends thoughts."""
    begins = text.lstrip().startswith(THINKS) or _other_marks(text, opened=opened) is not None
    return opened or THOUGHT in text or begins


def in_think_marks(text: str) -> str:
    """A reply that begins with thoughts in other known marks, with these between `<think>` and `</think>`."""
    if not (marks := _other_marks(text, opened=False)):
        return text
    begins, ends = marks
    thoughts = text[begins.end() : ends.start() if ends else None]
    before = f"{THINKS}{thoughts}{THOUGHT * (ends is not None)}" if thoughts.strip() else ""
    return before + text[ends.end() :] if ends else before


def unknown_marks(text: str) -> str | None:
    """The mark that a reply begins with, if it is one of a pair that is not known; else `None`."""
    found = None if has_thoughts(text) else _UNKNOWN.match(text)
    return found and found[0].strip()


def is_thinking(text: str, *, opened: bool = False) -> bool:
    """Whether a reply is in thoughts at its end."""
    parts = spoken(text, opened=opened)
    return not parts or parts[-1][1] < len(text)


def opens_thoughts(prompt: str) -> bool:
    """Whether a prompt ends in opened thoughts, as DeepSeek-R1's and QwQ's do."""
    return prompt.rstrip().endswith(THINKS)


def opening_parts(opening: str) -> tuple[str, str]:
    """The text that opens an answer, split into the turn's marks and finished thoughts, if any (Qwen3's are empty)."""
    marks, thinks, rest = opening.partition(THINKS)
    return marks, thinks + rest if THOUGHT in rest else ""


def _other_marks(text: str, *, opened: bool) -> tuple[re.Match[str], re.Match[str] | None] | None:
    """What begins a reply's thoughts other than `<think>`, and what ends them; `None` if it does not begin so."""
    if opened or text.lstrip().startswith(THINKS):
        return None
    return next(((begun, ends.search(text)) for begins, ends in _OTHERS if (begun := begins.match(text))), None)
