"""Turns a benchmark's prompt text into token ids: truncation first, the chat template afterwards."""

import sys
from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass
from typing import Literal, get_args

from lit_longpo.errors import InputError
from lit_longpo.policy import PromptFormat
from lit_longpo.policy.prompts.rendered import Utterance

Style = Literal["longbench", "longbench_v2", "infinitebench"]

# What `build_prompt` does unlike official scripts, and like them, for the heads of reports.
NOT_DOUBLED = "a beginning-of-text token that the chat template writes is not doubled"
READ_AS_CONTROL = "control tokens that the texts write out are read as such, as in the official scripts"


@dataclass(frozen=True)
class Rules:
    """How a task's prompts are built and answered.

    Args:
        style: truncation rule.
        chat: wrap the prompt in the chat template, if the model has one.
        stop_at_newline: a newline ends the answer, except as its first token.
    """

    style: Style
    max_new_tokens: int
    chat: bool = True
    stop_at_newline: bool = False


@dataclass(frozen=True)
class Prompt:
    """A prompt ready for greedy generation.

    Args:
        ids: what the model reads, chat template included. Shape: (num_ids,)
        max_new_tokens: tokens to generate at most.
        stop_ids: each of them ends the answer.
        num_tokens: tokens of the whole prompt, before truncation and chat template.
        uses_chat: the chat template was applied.
        num_lost: tokens that truncation removed.
        min_new_tokens: tokens before which nothing ends the answer.
        only_these_stops: whether the end tokens of the model's own generation settings do not end the answer.
        messages: roles and texts that a chat server is sent instead; none where first words of the answer are given.
    """

    ids: tuple[int, ...]
    max_new_tokens: int
    stop_ids: tuple[int, ...]
    _: KW_ONLY
    num_tokens: int
    uses_chat: bool
    num_lost: int = 0
    min_new_tokens: int = 0
    only_these_stops: bool = False
    messages: tuple[Utterance, ...] = ()

    @property
    def begins_turn(self) -> bool:
        """Whether the answer is all that is said behind the chat template: in thoughts first, if that opens some."""
        return self.uses_chat and bool(self.messages)


def build_prompt(
    text: str, prompt_format: PromptFormat, rules: Rules, max_length: int, window: int | None = None
) -> Prompt:
    """Cut the text in the middle, wrap it, encode it.

    As in the official scripts the kept tokens are decoded and encoded again, so a cut prompt may differ
    from `max_length` by a few tokens, and the chat template comes on top. Unlike them, a beginning-of-text
    token that the chat template writes itself is not doubled, and no end of a text stands before the answer.

    Args:
        text: the whole prompt, no chat template.
        prompt_format: tokenizer, chat template and its options.
        rules: of the task.
        max_length: tokens of the text to keep at most; official advice is the model's window minus 500.
        window: positions the model can read; `None` checks nothing.

    Raises:
        InputError: `max_length` is below 2, or prompt and answer do not fit the window.
    """
    if max_length < 2:
        raise InputError(
            f"expected max_length of at least 2 tokens, got {max_length}; pass the model's window minus 500"
        )
    tokenizer = prompt_format.tokenizer
    whole = prompt_format.encode_text(text)
    kept = truncate_middle(whole, max_length, style=rules.style)
    if len(kept) < len(whole):
        half = len(kept) // 2 if rules.style == "longbench" else len(kept)
        text = "".join(prompt_format.decode_whole(part) for part in (kept[:half], kept[half:]) if part)
    uses_chat = rules.chat and prompt_format.uses_chat
    # Control tokens that the text writes out are read as such, here and in the official scripts.
    ids = prompt_format.encode_message(text) if uses_chat else prompt_format.encode_text(text)
    check_room(len(ids), rules.max_new_tokens, max_length, window)
    newline = tokenizer.encode("\n", add_special_tokens=False)[-1:] if rules.stop_at_newline else []
    return Prompt(
        ids,
        rules.max_new_tokens,
        tuple(dict.fromkeys((*prompt_format.stop_ids, *newline))),
        num_tokens=len(whole),
        uses_chat=uses_chat,
        num_lost=len(whole) - len(kept),
        min_new_tokens=int(rules.stop_at_newline),
        only_these_stops=rules.stop_at_newline,  # the official script then names all stops itself
        messages=(("user", text),),
    )


def whole_prompt(
    text: str,
    prompt_format: PromptFormat,
    rules: Rules,
    max_length: int,
    window: int | None,
    *,
    advice: str = "",
) -> Prompt:
    """As `build_prompt`, of a text that must not be cut; `advice` is as in `uncut`.

    Raises:
        InputError: it is longer, or prompt and answer do not fit the window.
    """
    return uncut(build_prompt(text, prompt_format, rules, sys.maxsize), max_length, window, len(text), advice=advice)


def uncut(prompt: Prompt, max_length: int, window: int | None, num_chars: int = 0, *, advice: str = "") -> Prompt:
    """The prompt, unless it had to be cut.

    Args:
        prompt: whole.
        max_length: tokens at most, before the chat template.
        window: positions the model can read; `None` checks nothing.
        num_chars: of its texts, from which `max_chars` is worked out.
        advice: how to leave such prompts out; empty means with `max_chars`.

    Raises:
        InputError: it is longer, or prompt and answer do not fit the window.
    """
    around = prompt.max_new_tokens + len(prompt.ids) - prompt.num_tokens
    room = max_length if window is None else min(max_length, window - around)
    if prompt.num_tokens <= room:
        return prompt
    if not advice:
        most = int(0.9 * num_chars * room / prompt.num_tokens)
        advice = f"leave such out with --benchmark.max_chars {most}" if room > 1 else "lower --benchmark.max_new_tokens"
    raise InputError(
        f"expected a prompt of at most {max(room, 0):,} tokens before {prompt.max_new_tokens:,} tokens of an answer, "
        f"got {prompt.num_tokens:,}, and it must not be cut; {advice}, or raise `max_length` if the window allows"
    )


def truncate_middle(ids: Sequence[int], max_length: int, *, style: Style) -> list[int]:
    """Tokens that stay when a prompt is cut to a length.

    "longbench" (LV-Eval too) keeps `max_length // 2` tokens of either end, so an odd length loses one
    more; at 1 its slices keep everything, which is the official rule and of no use. "longbench_v2"
    keeps exactly `max_length`, the odd one at the end. "infinitebench" (its scripts for local models) cuts like
    "longbench"; the ends are decoded together, as by "longbench_v2".

    Args:
        ids: tokens of the whole prompt. Shape: (num_tokens,)
        max_length: tokens to keep at most; a prompt that is not longer stays as it is.
        style: whose rule.

    Returns:
        The kept tokens, head and tail joined.

    Raises:
        InputError: `max_length` below 1 or an unknown style.
    """
    if style not in get_args(Style):
        raise InputError(f"expected a style of {', '.join(get_args(Style))}, got {style!r}")
    if max_length < 1:
        raise InputError(
            f"expected max_length of at least 1 token, got {max_length}; pass the model's window minus 500"
        )
    ids = list(ids)
    if len(ids) <= max_length:
        return ids
    head = max_length // 2
    tail = max_length - head if style == "longbench_v2" else head
    return ids[:head] + ids[-tail:]  # a tail of 0 is everything, as in the official slice


def check_room(num_ids: int, max_new_tokens: int, max_length: int, window: int | None) -> None:
    """Refuse a prompt whose answer would not fit the window.

    Raises:
        InputError: it would not; the message says which `max_length` would do.
    """
    if window is not None and num_ids + max_new_tokens > window:
        excess = num_ids + max_new_tokens - window
        raise InputError(
            f"expected a prompt and {max_new_tokens} new tokens to fit {window} positions, got a prompt of "
            f"{num_ids} tokens; set max_length to {max_length - excess} or less"
        )
