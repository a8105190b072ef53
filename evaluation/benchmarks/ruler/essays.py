"""Text that serves RULER's needles as hay."""

import re
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

from evaluation.benchmarks.official_files import OfficialFileError, Row, read_json, read_text
from evaluation.benchmarks.ruler.templates import mapping


class Essays:
    """A text whose first words are hay, again and again if it is too short.

    Args:
        path: a text file, or a JSON file with `text` as the official one.

    Raises:
        MissingFileError: there is no such file.
        OfficialFileError: it has no text.
    """

    def __init__(self, path: Path) -> None:
        if path.suffix.lower() == ".json":
            text = Row(str(path), mapping(read_json(path, "text"), str(path), "file")).text("text")
        else:
            text = read_text(path, "a text file")
        self.words = re.sub(r"\s+", " ", text).split(" ")
        if not text.strip():
            raise OfficialFileError.at(str(path), "file", "a text", text)
        self.split, self.deviations = _sentence_splitter()
        self.sentences = lru_cache(maxsize=8)(self._sentences)

    def _sentences(self, num_words: int) -> tuple[str, ...]:
        """Of the first words."""
        times = -(-num_words // len(self.words))
        return tuple(self.split(" ".join((self.words * times)[:num_words]).strip()))


def _sentence_splitter() -> tuple[Callable[[str], list[str]], tuple[str, ...]]:
    """NLTK's, as official, where it and its data are there."""
    try:
        from nltk.tokenize import sent_tokenize

        sent_tokenize("One. Two.")
    except (ImportError, LookupError):
        ours = "sentences of essays end at . ! ? before a blank, as nltk's punkt data are not installed"
        return re.compile(r"(?<=[.!?])\s+").split, (ours,)
    return sent_tokenize, ()
