"""Measuring and cutting text in tokens, without ever going through decoded ids."""

from functools import lru_cache

from data_modules.builders.generators.requests import digest
from lit_longpo.errors import InputError
from lit_longpo.policy import PromptFormat

OMISSION = "\n\n[...]\n\n"


class TextTokens:
    """Token counts and cuts with one tokenizer."""

    def __init__(self, prompt_format: PromptFormat) -> None:
        self.prompt_format = prompt_format
        self.count = lru_cache(maxsize=1 << 15)(self._count)

    def _count(self, text: str) -> int:
        return len(self.prompt_format.encode(text))

    def identity(self) -> str:
        """Hash of the vocabulary: what counts depend on."""
        return digest(self.prompt_format.tokenizer.get_vocab())

    def ends(self, text: str) -> list[int]:
        """Character position where each token ends, ascending.

        Raises:
            InputError: the tokenizer does not know where its tokens lie.
        """
        tokenizer = self.prompt_format.tokenizer
        if not tokenizer.is_fast:
            raise InputError(
                f"expected a fast tokenizer (one that gives character offsets), got {type(tokenizer).__name__}; "
                "add tokenizer.json to the folder of `policy.source`"
            )
        encoding = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
        return [int(end) for _, end in encoding["offset_mapping"]]

    def cut_middle(self, text: str, max_tokens: int) -> str:
        """First and last part of a text that is too long, a mark between them; `max_tokens` at most.

        Raises:
            InputError: the budget has no room for two tokens and the mark.
        """
        if self.count(text) <= max_tokens:
            return text
        ends, budget = self.ends(text), max_tokens - self.count(OMISSION)
        while budget > 1:
            tail = budget // 2
            start = ends[len(ends) - tail - 1]
            shorter = text[: ends[budget - tail - 1]].rstrip() + OMISSION + text[start:].lstrip()
            if self.count(shorter) <= max_tokens:
                return shorter
            budget -= max(1, self.count(shorter) - max_tokens)  # a seam can cost a token or two
        raise InputError(
            f"expected room for two tokens and the omission mark {OMISSION.strip()!r}, got max_tokens={max_tokens}; "
            "raise it"
        )
