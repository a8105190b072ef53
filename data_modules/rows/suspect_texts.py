"""Counts texts that are probably mistakes, without changing them.

- printed missing values (`None`, `nan`) and wrongly decoded letters
- answers that a reader cannot tell apart: the same letters in another Unicode normal form (as files of macOS have
  them), or with characters of no width between them
- answers that are stored with their prompt
- chosen answers that are a printed list, in whose place one of its texts was meant
- messages about a picture that is not there
"""

import re
import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from data_modules.records import PreferencePair
from lit_longpo.files.answer_fields import is_bracketed, prints_texts

# As Python, pandas, numpy, JSON and JavaScript write it; `NA` and `N/A` are people's words.
_PRINTED = {"None", "none", "nan", "NaN", "null", "NULL", "<NA>", "NaT", "undefined"}
# What stands for bytes that are no text, and UTF-8 that was read as Latin: an accented letter, a dash or quotation
# mark, a sign or space.
_DAMAGED = re.compile("\ufffd|\u00c3[\u0080-\u00bf]|\u00e2\u20ac[\u0080-\u2122]|\u00c2[\u00a0-\u00bf]")
# Characters that no script needs and nobody sees: soft hyphen, zero-width space, word joiner, byte order mark. (Joiners
# and non-joiners decide how Indic and Arabic letters look.)
_UNSEEN = dict.fromkeys(map(ord, "\u00ad\u200b\u2060\ufeff"))
# LLaVA's way to say where a picture stands in a message; inside of texts it is HTML (LLaMA-Factory#8440).
_PICTURES = ("<image>", "<video>", "<audio>")
_LONG = 20  # characters of a prompt that no answer begins with by itself


@dataclass
class SuspectTexts:
    """Counts of suspect texts in a split.

    Args:
        printed: by field, texts that are only what programs print for a missing value.
        damaged: records with letters that a wrong decoding has left.
        alike: records with a rejected answer that looks like the chosen one, in other characters.
        repeating: records whose answers all begin with the prompt.
        listed: records whose chosen answer is a printed list of texts, and a rejected one is no list of any kind.
        pictures: records with a message that begins or ends with the place of a picture.
    """

    printed: dict[str, int] = field(default_factory=dict)
    damaged: int = 0
    alike: int = 0
    repeating: int = 0
    listed: int = 0
    pictures: int = 0

    def counted(self, pairs: Iterable[PreferencePair]) -> Iterator[PreferencePair]:
        """The pairs, counted on their way."""
        for pair in pairs:
            texts = list(_texts(pair))
            for name, text in texts:
                if text in _PRINTED:
                    self.printed[name] = self.printed.get(name, 0) + 1
            self.damaged += any(_DAMAGED.search(text) for _, text in texts)
            self.alike += any(_seen(turn.chosen) in map(_seen, turn.rejected) for turn in pair.all_turns)
            self.repeating += _repeats_prompt(pair)
            self.listed += any(prints_texts(turn.chosen) and not _all_lists(turn.rejected) for turn in pair.all_turns)
            self.pictures += any(map(_shows_picture, _asked(pair)))
            yield pair

    def warnings(self, records: int) -> Iterator[str]:
        """What was found, a line for each kind."""
        if self.printed:
            counts = ", ".join(f"{number} in `{name}`" for name, number in self.printed.items())
            yield (
                "texts that are only what programs print for a missing value ('None', 'nan', 'null'), and are read as "
                f"words: {counts}; leave such fields out, or null in .jsonl and empty in .csv, if nothing is meant"
            )
        if self.damaged:
            yield (
                f"{self.damaged} of {records} records hold what a wrong decoding leaves (\ufffd, UTF-8 read as Latin: "
                "\u00e2\u20ac\u2122, \u00c3\u00a9), and are read as they stand: decode their source as UTF-8"
            )
        if self.alike:
            yield (
                f"{self.alike} of {records} records have a rejected answer that looks like the chosen one (another "
                "Unicode normal form, or characters that nobody sees), and teach nothing but that; correct their "
                "source, or leave them out"
            )
        if self.repeating:
            yield (
                f"{self.repeating} of {records} records have answers that begin with the whole prompt, which they are "
                "trained to repeat; store the answers alone, if the prompt stands there a second time"
            )
        if self.listed:
            yield (
                f"{self.listed} of {records} records have a chosen answer that is a printed list of texts (['...']), "
                "whose brackets and quotation marks are trained; store the text itself, unless lists are asked for"
            )
        if self.pictures:
            yield (
                f"{self.pictures} of {records} records hold the place of a picture, video or sound (<image>), which is "
                "read as these letters: only texts are trained here; leave such records out"
            )


def _asked(pair: PreferencePair) -> Iterator[str]:
    """What the user says."""
    yield pair.long_context
    yield pair.short_context
    yield from (turn.question for turn in pair.all_turns)
    yield from (message.content for message in pair.other_messages if message.role == "user")


def _shows_picture(text: str) -> bool:
    """Whether a message begins or ends with the place of a picture."""
    return text.lstrip().startswith(_PICTURES) or text.rstrip().endswith(_PICTURES)


def _repeats_prompt(pair: PreferencePair) -> bool:
    """Whether prompt and answer are stored together, as trainers of other projects take them (OpenRLHF#909).

    A short question is also how some answers begin.
    """
    prompt = pair.last_said.strip()
    return len(prompt) >= _LONG and all(answer.lstrip().startswith(prompt) for answer in (pair.chosen, *pair.rejected))


def _all_lists(answers: tuple[str, ...]) -> bool:
    """Whether there are answers, all of them lists."""
    return bool(answers) and all(map(is_bracketed, answers))


def _seen(text: str) -> str:
    """A text as a reader sees it, in one normal form and without characters of no width."""
    return text.strip() if text.isascii() else unicodedata.normalize("NFC", text.translate(_UNSEEN)).strip()


def _texts(pair: PreferencePair) -> Iterator[tuple[str, str]]:
    yield "system", pair.system or ""
    yield "long_context", pair.long_context
    for message in pair.other_messages:
        yield "messages", message.content
    for turn in pair.all_turns:
        yield "question", turn.question
        yield "short_context", turn.short_context
        yield "chosen", turn.chosen
        for answer in turn.rejected:
            yield "rejected", answer
