"""Plain texts as one sequence of tokens, and the windows that slide over it."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, get_args

from lit_longpo.errors import InputError, MissingFileError
from lit_longpo.files.folders import files_in
from lit_longpo.files.plain_text import NotTextError, read_plain
from lit_longpo.ranges import MOST_TOKENS, check_numbers

log = logging.getLogger(__name__)

Counted = Literal["all", "last"]
_SUFFIXES = (".txt", ".md")  # of a folder the first that it has


@dataclass(frozen=True)
class Windows:
    """Which windows are read, and which of their tokens count.

    As LongLoRA's evaluation: all texts are one sequence, windows of each length start every `stride` tokens, and each
    window's mean counts alike. The end of the sequence that no window reaches is not read.

    Args:
        lengths: tokens of a window, ascending.
        stride: tokens from one start to the next.
        counted: "all" tokens of a window but its first, those with little before them too; or its "last" `stride`.
        max_windows: of each length, spread evenly over the sequence; `None` means all.

    Raises:
        InputError: numbers that mean nothing.
    """

    lengths: list[int] = field(default_factory=lambda: [2048, 4096, 8192])
    stride: int = 256
    counted: Counted = "all"
    max_windows: int | None = None

    def __post_init__(self) -> None:
        if not self.lengths or self.lengths != sorted(set(self.lengths)) or self.lengths[0] < 2:
            raise InputError(f"expected ascending lengths of at least 2 tokens, got {self.lengths}; correct --lengths")
        check_numbers(self, "", lengths=(2, MOST_TOKENS), stride=(1, MOST_TOKENS), max_windows=(1, MOST_TOKENS))
        if self.counted not in get_args(Counted):
            raise InputError(f"expected counted of {', '.join(get_args(Counted))}, got {self.counted!r}")
        if self.counted == "last" and self.stride >= self.lengths[0]:
            raise InputError(
                f"expected lengths above the stride of {self.stride} with `counted: last`, got {self.lengths[0]}; "
                "lower --stride"
            )

    def starts(self, length: int, num_tokens: int) -> list[int]:
        """Where windows of a length begin; the last possible start is left out unless it is the only one.

        Raises:
            InputError: the sequence is shorter.
        """
        if num_tokens < length:
            raise InputError(
                f"expected texts of at least {length:,} tokens in all, got {num_tokens:,}; leave out lengths above "
                f"{num_tokens:,} with --lengths, or name more texts"
            )
        every = list(range(0, max(num_tokens - length, 1), self.stride))
        if self.max_windows is None or len(every) <= self.max_windows:
            return every
        return [every[number * len(every) // self.max_windows] for number in range(self.max_windows)]

    def first_counted(self, length: int) -> int:
        """Position of the first token of a window that counts; nothing predicts the one at 0."""
        return 1 if self.counted == "all" else length - self.stride


def text_files(path: str) -> list[Path]:
    """The file, or all `.txt` files of a folder in the order of their names; all `.md` files, where it has no others.

    Raises:
        MissingFileError: there is none.
    """
    root = Path(path)
    inside = files_in(root)
    kinds = [[file for file in inside if file.suffix.lower() == suffix] for suffix in _SUFFIXES]
    files = inside if root.is_file() else next(filter(None, kinds), [])
    if all(kinds):
        log.warning(
            "%s: %d .txt files are read, %d .md files are not; to read one type --path FILE", root, *map(len, kinds)
        )
    if not files:
        raise MissingFileError(
            f"expected a text file, or a folder of {' or '.join(_SUFFIXES)} files, at {str(root.absolute())!r}, found "
            "none; set --path"
        )
    return files


def read_tokens(files: Sequence[Path], encode: Callable[[str], Sequence[int]]) -> list[int]:
    """Tokens of all texts, one after another.

    Raises:
        InputError: a file is no UTF-8 text.
    """
    tokens = list[int]()
    for file in files:
        try:
            text = read_plain(file)
        except NotTextError as error:
            raise InputError(f"expected UTF-8 text in {file}, got {error}; convert it or leave it out") from error
        tokens += encode(text)
    return tokens
