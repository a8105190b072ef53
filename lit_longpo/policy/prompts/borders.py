"""The tokens that a tokenizer puts before every text, and those with which a chat template ends an answer."""

from collections.abc import Sequence

from tokenizers.processors import TemplateProcessing
from transformers import PreTrainedTokenizerBase

from lit_longpo.errors import InputError
from lit_longpo.policy.prompts.chat_template import ChatTemplate
from lit_longpo.policy.prompts.tokenizing import LocatedTokens, TextEncoder, Tokens, shared_length


def added_in_front(tokenizer: PreTrainedTokenizerBase) -> tuple[int, ...]:
    """The special tokens that a tokenizer puts before every text."""
    alone, whole = tokenizer.encode("a", add_special_tokens=False), list(tokenizer("a")["input_ids"])
    starts = (start for start in range(len(whole)) if whole[start : start + len(alone)] == alone)
    return tuple(whole[: next(starts, 0)])


def put_nothing_behind(tokenizer: PreTrainedTokenizerBase) -> None:
    """Keep a tokenizer from appending an end to texts (`add_eos_token`), since an answer is to follow.

    Raises:
        InputError: it is a slow tokenizer, whose rule cannot be changed.
    """
    front, whole = added_in_front(tokenizer), list(tokenizer("a")["input_ids"])
    kept = [*front, *tokenizer.encode("a", add_special_tokens=False)]
    if len(whole) == len(kept) or whole[: len(kept)] != kept:
        return
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        raise InputError(
            f"expected a tokenizer that puts nothing behind texts, got {type(tokenizer).__name__} with an end; set "
            "`add_eos_token: false` in the tokenizer_config.json of its folder"
        )
    names = tokenizer.convert_ids_to_tokens(list(front))
    special = list(zip(names, front, strict=True))
    backend.post_processor = TemplateProcessing(single=[*names, "$A"], special_tokens=special)


def end_of_answer(
    tokenizer: PreTrainedTokenizerBase, texts: TextEncoder, chat: ChatTemplate | None
) -> tuple[str, tuple[int, ...]]:
    """The text with which a chat template closes an answer, and the tokens to append to it (often none).

    Templates may write more behind the last answer than behind earlier ones (Phi-3: the end of the text behind the end
    of the turn). So an answer is closed by what both have in common, up to the token that opens a turn. Some templates
    open another answer behind the last one (Llama 3's first); some leave the last one open, which is then closed as the
    earlier ones are.
    """
    eos = (int(tokenizer.eos_token_id),)
    if chat is None:
        return "", eos
    following = chat.after_earlier_answer
    if following is not None and not chat.suffix.strip() and (mark := _first_mark(tokenizer, texts, chat, following)):
        return mark, ()
    last = texts.encode_after("", chat.suffix)
    count = _num_closing(tokenizer, texts, chat, last.ids)
    closings = ["", *(_text_of(last, chat.suffix, number) for number in range(1, count + 1))]
    while len(closings) > 1 and closings[-1] == closings[-2]:  # a token of white space
        closings.pop()
    ends_in_mark = len(closings) > 1 and last.ids[len(closings) - 2] in _control_ids(tokenizer)
    return closings[-1], () if ends_in_mark else eos


def _num_closing(
    tokenizer: PreTrainedTokenizerBase, texts: TextEncoder, chat: ChatTemplate, last: Sequence[int]
) -> int:
    """How many of the tokens behind the last answer close it: those behind earlier ones, too, up to a new turn."""
    following = chat.after_earlier_answer
    later = last if following is None else texts.encode_after("", following).ids
    count = shared_length(last, later) or len(last)
    opening = _opening(tokenizer, texts, chat, later)
    return last.index(opening, 1, count) if opening in last[1:count] else count


def _first_mark(tokenizer: PreTrainedTokenizerBase, texts: TextEncoder, chat: ChatTemplate, following: str) -> str:
    """The control token that closes an earlier answer; empty if none does, for example if the next turn just opens."""
    text = following.lstrip()
    ids = texts.encode_after("", text).ids
    opens = {_opening(tokenizer, texts, chat, ids), tokenizer.bos_token_id} - {tokenizer.eos_token_id}
    token = tokenizer.added_tokens_decoder.get(ids[0]) if ids and ids[0] not in opens else None
    return token.content if token is not None and text.startswith(token.content) else ""


def _opening(
    tokenizer: PreTrainedTokenizerBase, texts: TextEncoder, chat: ChatTemplate, later: Sequence[int]
) -> int | None:
    """The control token that opens turns; `None` if there is none.

    It is the first control token of a prompt that occurs again between an answer and the next question. A token that
    closes turns also occurs again if the template begins with a message of its own; any other goes
    before it.
    """
    ids = texts.encode(chat.head).ids
    again = set(later) & _control_ids(tokenizer) - {tokenizer.bos_token_id}
    behind = texts.encode_after("", chat.tail).ids
    closing = next((number for number in behind if number in _control_ids(tokenizer)), None)
    opens = [number for number in ids if number in again]
    return next((number for number in opens if number != closing), next(iter(opens), None))


def _control_ids(tokenizer: PreTrainedTokenizerBase) -> set[int]:
    """The ids of added tokens, without the unknown token: a template's mark that becomes it says nothing."""
    unknown = {tokenizer.unk_token_id} - {tokenizer.bos_token_id, tokenizer.eos_token_id}  # GPT-2's is its end, too
    return set(tokenizer.added_tokens_decoder) - unknown


def _text_of(tokens: Tokens, text: str, count: int) -> str:
    """The text of the first tokens, without white space at its end."""
    if isinstance(tokens, LocatedTokens):
        return text[: tokens.spans[count - 1][1]].rstrip()
    ends = (end for end in range(len(text) + 1) if tokens.starting_before(end) >= count)
    return text[: next(ends, len(text))].rstrip()
