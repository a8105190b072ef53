"""Tokenises texts, and tells where in the text each token lies.

Special tokens written out in data (`<|im_end|>` in a web page) are text there: a tokenizer would read them as
control tokens. A text in which that happens is encoded in pieces, the written-out token by the tokenizer's model
alone, as `apply_chat_template(..., sanitize_control_tokens=True)` of transformers does it.
"""

import json
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import takewhile
from typing import Any

from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerBase

from lit_longpo.errors import InputError
from lit_longpo.policy.prompts.control_tokens import Data, written_out
from lit_longpo.policy.prompts.rendered import Span


@dataclass(frozen=True)
class LocatedTokens:
    """Tokens of a tokenizer that knows their characters.

    Args:
        ids: token ids.
        spans: first character and end of each token, ascending.
    """

    ids: tuple[int, ...]
    spans: Sequence[Span]

    def starting_before(self, char: int) -> int:
        """How many of the first tokens begin before a character; one across it counts."""
        return bisect_left(self.spans, char, key=lambda span: span[0])

    def ending_by(self, char: int) -> int:
        """How many of the first tokens end at or before a character; one across it does not count."""
        return bisect_right(self.spans, char, key=lambda span: span[1])

    def without_first(self, count: int, chars: int) -> "LocatedTokens":
        """What is left without the first tokens, which take `chars` characters."""
        return LocatedTokens(self.ids[count:], [(start - chars, end - chars) for start, end in self.spans[count:]])


@dataclass(frozen=True)
class UnlocatedTokens:
    """Tokens of a tokenizer that does not tell their characters: parts of the text are encoded to compare."""

    ids: tuple[int, ...]
    text: str
    encode: Callable[[str], tuple[int, ...]]

    def starting_before(self, char: int) -> int:
        """How many of the first tokens begin before a character for certain."""
        return shared_length(self.ids, self.encode(self.text[:char]))

    def ending_by(self, char: int) -> int:
        """How many of the first tokens are not after a character for certain."""
        return len(self.ids) - shared_length(self.ids[::-1], self.encode(self.text[char:])[::-1])


Tokens = LocatedTokens | UnlocatedTokens


class TextEncoder:
    """Encodes texts, and parts of texts as they would be encoded inside the whole."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self.tokenizer = tokenizer
        self._before: dict[str, tuple[int, ...]] = {}  # of the few texts that others are encoded behind

    def encode(self, text: str, data: Sequence[Data] = ()) -> Tokens:
        """A whole text without the special tokens that a tokenizer adds around it.

        Raises:
            InputError: the tokenizer makes a control token out of data even so.
        """
        if not self.tokenizer.is_fast:
            return self._encode_slowly(text, data)
        tokens = self._located(text)
        if self._controlled(text, tokens, data) or self._names_unknown(text, data):
            return self._escaped(text, data)
        return tokens

    def encode_after(self, before: str, text: str, data: Sequence[Data] = ()) -> Tokens:
        """Tokens of a text as it is encoded after another one, without the mark of a text's beginning.

        The text is encoded on its own if a token would span both.

        Args:
            before: what stands before it; a line break if that is nothing.
            text: encoded.
            data: where in `text` control tokens are text.
        """
        before = before or "\n"
        if before not in self._before:  # it may have no tokens
            self._before[before] = self.encode(before).ids
        first = self._before[before]
        both = self.encode(before + text, [part.moved(len(before)) for part in data])
        if both.ids[: len(first)] != first or self.tokenizer.unk_token_id in first:
            return self.encode(text, data) if before == "\n" else self.encode_after("\n", text, data)
        if isinstance(both, LocatedTokens):
            return both.without_first(len(first), len(before))
        return UnlocatedTokens(both.ids[len(first) :], text, self._slow_ids)

    def _controlled(self, text: str, tokens: LocatedTokens, data: Sequence[Data]) -> set[int]:
        """The control tokens that were read out of data and have to be encoded as text; the unknown token is none."""
        hit = set[int]()
        if all(part.markup.ids.isdisjoint(tokens.ids) for part in data):  # nearly always
            return hit
        for part in data:
            first, end = tokens.ending_by(part.start), tokens.starting_before(part.end)
            wanted = part.markup.ids.intersection(tokens.ids[first:end]) - {self.tokenizer.unk_token_id}
            rows = zip(tokens.ids[first:end], tokens.spans[first:end], strict=True) if wanted else ()
            hit |= {token for token, span in rows if token in wanted and part.touches(text, span)}
        return hit

    def _names_unknown(self, text: str, data: Sequence[Data]) -> bool:
        """Whether data writes out the token for what is unknown, whose id says nothing."""
        name = self.tokenizer.unk_token
        return name is not None and any(
            name in part.markup.tokens and text.find(name, part.start, part.end) >= 0 for part in data
        )

    def _located(self, text: str) -> LocatedTokens:
        encoding = self.tokenizer(
            text,
            add_special_tokens=False,
            return_offsets_mapping=True,
            return_attention_mask=False,
            return_token_type_ids=False,
            verbose=False,
        )
        return LocatedTokens(tuple(encoding["input_ids"]), encoding["offset_mapping"])

    def _escaped(self, text: str, data: Sequence[Data]) -> LocatedTokens:
        """Pieces: what data writes out of control tokens, and all else."""
        pieces, position = list[tuple[str, Callable[[str], LocatedTokens]]](), 0
        for start, end in (*written_out(text, data), (len(text), len(text))):
            pieces += [(text[position:start], self._located), (text[start:end], self._bare_located)]
            position = end
        ids, spans, position = list[int](), list[Span](), 0
        for number, (piece, encode) in enumerate(pieces):
            tokens = _inside(encode, piece) if number else encode(piece)
            ids += tokens.ids
            spans += [(position + start, position + end) for start, end in tokens.spans]
            position += len(piece)
        whole = LocatedTokens(tuple(ids), spans)
        left = self._controlled(text, whole, data)
        if left:
            raise self._still_control(left)
        return whole

    def _encode_slowly(self, text: str, data: Sequence[Data]) -> UnlocatedTokens:
        """Tokenizers without offsets also lack a way to keep what they know as a token apart: refuse it in data."""
        written = [text[start:end] for start, end in written_out(text, data)]
        if written:
            raise InputError(
                f"expected data without control tokens for {type(self.tokenizer).__name__}, got {written[0]!r}: only "
                "tokenizers with a tokenizer.json can read it as text; add that file to the folder of `policy.source`, "
                "or set `policy.template.markup: control`"
            )
        return UnlocatedTokens(self._slow_ids(text), text, self._slow_ids)

    def _slow_ids(self, text: str) -> tuple[int, ...]:
        return tuple(self.tokenizer.encode(text, add_special_tokens=False, verbose=False))

    def _bare_located(self, text: str) -> LocatedTokens:
        encoding = self._bare.encode(text, add_special_tokens=False)
        return LocatedTokens(tuple(encoding.ids), encoding.offsets)

    @cached_property
    def _bare(self) -> Tokenizer:
        """The tokenizer's model without the tokens that were added to it."""
        backend: Any = self.tokenizer
        state = json.loads(backend.backend_tokenizer.to_str())
        state.update(added_tokens=[], post_processor=None, truncation=None, padding=None)
        return Tokenizer.from_str(json.dumps(state))

    def _still_control(self, ids: Iterable[int]) -> InputError:
        names = ", ".join(map(repr, self.tokenizer.convert_ids_to_tokens(sorted(ids))))
        return InputError(
            f"expected {type(self.tokenizer).__name__} to read control tokens in data as text, got {names} as tokens: "
            "its own model makes them; take them out of the data, or set `policy.template.markup: control`"
        )


def _inside(encode: Callable[[str], LocatedTokens], piece: str) -> LocatedTokens:
    """A piece as it is encoded inside a text: behind a line break, which is then taken away."""
    if not piece:
        return LocatedTokens((), ())
    newline, both = encode("\n").ids, encode("\n" + piece)
    return both.without_first(len(newline), 1) if both.ids[: len(newline)] == newline else encode(piece)


def shared_length(first: Sequence[object], second: Sequence[object]) -> int:
    """Length of what both begin with."""
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(first, second, strict=False)))
