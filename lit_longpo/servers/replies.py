"""Reads the replies of OpenAI-compatible servers: text, thoughts, token counts, and why an answer ended."""

import re
from typing import Any

# `finish_reason`: the model has ended its answer, or its tokens were over. All other reasons (a filter, an error, an
# abort) leave a part of an answer that looks like a whole one.
ENDED, CUT_OFF = "stop", "length"
# What others say in place of these: TGI, Together, Anthropic, Gemini (in capitals), Mistral.
_OTHER_WORDS = {
    **dict.fromkeys(("eos_token", "stop_sequence", "eos", "end_turn"), ENDED),
    **dict.fromkeys(("max_tokens", "model_length"), CUT_OFF),
}
_UNCOUNTED = 2  # tokens that end a turn, which some servers count beyond the limit
# What ends a turn. A server that leaves it in its text has not stopped there; gpt-oss goes on behind its thoughts.
_TURN_ENDS = re.compile(
    r"<\|(?:im_end|eot_id|eom_id|endoftext|end_of_text|END_OF_TURN_TOKEN|END_RESPONSE|END_TEXT|return)\|>|<\|end\|>(?!<\|start\|>)"
    "|<end_of_turn>|<turn\\|>|<\uff5cend\u2581of\u2581sentence\uff5c>"
)
_VERSION = re.compile(r"([-@:]v?\d[\d.]*)*")  # behind a model's name; a size is another model: -mini, -72b
_THOUGHTS = ("reasoning_content", "reasoning")  # of a reply's message: what servers that keep them apart call them


def has_choice(reply: Any) -> bool:
    """Whether a reply has a choice with a message or a text.

    Args:
        reply: of a server. Some proxies answer failures of the server behind them with code 200 and another object.
    """
    choices = getattr(reply, "choices", None)
    choice: Any = choices[0] if isinstance(choices, list) and choices else None
    said = choice.message if hasattr(choice, "message") else choice
    content = getattr(said, "text" if said is choice else "content", 0)
    if isinstance(content, list):
        return all(isinstance(part, dict) for part in content)
    return content is None or isinstance(content, str)  # nothing beside a refusal, or thoughts that were cut off


def told_error(reply: Any) -> Any:
    """What a reply says has gone wrong, beside whatever text was there before it; `None` if nothing has.

    Gateways that lose the server behind them have promised code 200 already. Some say "stop" all the same, and name the
    reason in the reply, in its choice (genkit#6259) or as OpenRouter's `native_finish_reason` (pi#8511).
    """
    choices = getattr(reply, "choices", None)
    choice = choices[0] if isinstance(choices, list) and choices else None
    native = str(getattr(choice, "native_finish_reason", ""))
    said = native if "error" in native.lower() else None
    return getattr(reply, "error", None) or getattr(choice, "error", None) or said


def ending(choice: Any) -> Any:
    """Why an answer ended, in OpenAI's words: "stop", "length", or what the choice says; `None` if it says nothing.

    Gateways pass on the words of the server behind them (qwen-code#9882), or say "stop" and leave it to
    `native_finish_reason` that the tokens were over (inspect_ai#5143).
    """
    reason, native = (_in_openais_words(getattr(choice, f"{kind}finish_reason", None)) for kind in ("", "native_"))
    return native if (reason, native) == (ENDED, CUT_OFF) else reason


def broke_off(choice: Any) -> bool:
    """Whether an answer broke off for another reason than its number of tokens."""
    return ending(choice) not in (None, ENDED, CUT_OFF)


def keeps_thoughts_apart(choice: Any) -> bool:
    """Whether a reply has thoughts in a field of their own, apart from its text."""
    message = getattr(choice, "message", None)
    in_parts = any(part.get("type") == "thinking" for part in _parts(getattr(message, "content", None)))
    return in_parts or any(getattr(message, name, None) for name in _THOUGHTS)


def reply_text(choice: Any) -> Any:
    """The text of a chat reply up to the end of its turn, without thoughts that the server keeps apart; "" if none.

    Args:
        choice: a choice of the reply. Its content may be a list of parts (Mistral's, ai-dial-adapter-openai#395), or
            be empty beside the words in which the model refuses to answer (openclaw#102321).
    """
    content = choice.message.content or getattr(choice.message, "refusal", None)
    if isinstance(content, list):
        content = "".join(part["text"] for part in _parts(content) if isinstance(part.get("text"), str))
    if isinstance(content, str):
        return _TURN_ENDS.split(content, maxsplit=1)[0]
    return "" if content is None else content


def other_model(reply: Any, asked: str) -> str | None:
    """The model that a reply names, if that is another than was asked for: a router's, or one that was loaded anyway.

    A name may be the longer form of the other, by a version or a place ("gpt-4o-2024-08-06", "openai/gpt-4o").
    """
    named = getattr(reply, "model", None)
    if not isinstance(named, str) or not named:
        return None
    one, other = _steps(named), _steps(asked)
    depth, (short, long) = min(len(one), len(other)), sorted((one[-1], other[-1]), key=len)
    alike = one[-depth:-1] == other[-depth:-1] and long.startswith(short)
    return None if alike and _VERSION.fullmatch(long[len(short) :]) else named


def _steps(model: str) -> list[str]:
    """A model's name from its place to its own, without what names no version (Ollama's `:latest`)."""
    return re.sub(r"[-:]latest$|\.gguf$", "", model.lower()).strip("/").split("/")


def _in_openais_words(reason: Any) -> Any:
    return _OTHER_WORDS.get(reason.lower(), reason.lower()) if isinstance(reason, str) else reason


def _parts(content: Any) -> list[dict[str, Any]]:
    return [part for part in content if isinstance(part, dict)] if isinstance(content, list) else []


def num_read(reply: Any) -> int | None:
    """Tokens of the prompt as the server counts them; `None` if it does not count."""
    return _count(reply, "prompt_tokens")


def num_written(reply: Any) -> int | None:
    """Tokens of the answer as the server counts them; `None` if it does not count."""
    return _count(reply, "completion_tokens")


def at_limit(reply: Any, most: int) -> bool:
    """Whether the tokens of the answer were over; some servers say "stop" all the same (litellm#25825).

    More tokens than these were not held to the limit: thoughts that a server keeps apart (see `beyond_limit`).
    """
    return ending(reply.choices[0]) == CUT_OFF or most <= (num_written(reply) or 0) <= most + _UNCOUNTED


def beyond_limit(reply: Any, most: int) -> int | None:
    """Tokens of an answer that a server did not end where it was asked to (litellm#1629); `None` if it did.

    Thoughts that it keeps apart need not be under the limit.
    """
    written = num_written(reply) or 0
    return written if written > most + _UNCOUNTED and not keeps_thoughts_apart(reply.choices[0]) else None


def _count(reply: Any, name: str) -> int | None:
    number = getattr(getattr(reply, "usage", None), name, None)
    return number if isinstance(number, int) and number > 0 else None


def whole_characters(text: str) -> str:
    """The text with lone surrogates replaced by U+FFFD, since no file could store them."""
    return text.encode("utf-8", "surrogatepass").decode("utf-8", "replace")
