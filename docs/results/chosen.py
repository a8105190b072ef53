"""Tables of chosen rows from stored results: the README's two, SFT's rivals on its contexts, flipped labels."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from results.outcomes import STORED, load
from results.pages import line
from results.rows import Row, common_seeds, difference, rows_of
from results.tables import number, points

_EMBEDDED = {
    "before": "base",
    "SFT, long contexts": "sft-long",
    "ORPO, long contexts": "orpo-long",
    "LongPO, answer's NLL": "longpo",
    "SoLoPO-ORPO, squared penalty": "solopo-orpo-squared",
    "LOGO, no row longer than 64 words": "logo-mixed-2-rejected",
}
_LENGTHS, _LONG = ("64", "128", "256", "384", "512"), ("256", "384", "512")
# By label and trained length.
_REAL = {
    ("SFT, short contexts", ""): "sft-short",
    ("SFT, long contexts", "1,024"): "sft-long-1024",
    ("ORPO, long contexts", "1,024"): "orpo-long-1024",
    ("SoLoPO-ORPO", "1,024"): "solopo-orpo-1024",
    ("LongPO, answer's NLL", "1,024"): "longpo-answer-1024",
    ("LOGO", "1,024"): "logo-1024",
    ("SFT, long contexts", "2,048"): "sft-long-2048",
    ("ORPO, long contexts", "2,048"): "orpo-long-2048",
}
# Rows and what they are compared with.
_OTHERS = (
    ("orpo-long-2048", "sft-long-2048"),
    ("solopo-orpo-2048", "sft-long-2048"),
    ("longpo-answer-2048", "sft-long-2048"),
    ("logo-2048", "sft-long-2048"),
    ("orpo-long-1024", "sft-long-1024"),
    ("longpo-answer-1024", "sft-long-1024"),
    ("solopo-orpo-1024", "sft-long-1024"),
    ("logo-1024", "sft-long-1024"),
    ("logo-likelihood-1024", "logo-1024"),
    ("orpo-long-1024", "sft-short-equal-flops"),
    ("sft-long-1024", "sft-short-equal-flops"),
)
_FLIPPED = {"ORPO-long": "orpo-long", "SFT-long": "sft-long", "DPO-long": "dpo-long"}


def readme(stored: Path = STORED) -> dict[str, str]:
    """Markdown by the name of its block in the README."""
    return {"best-embedded": embedded(stored / "embedded"), "best-real": real(stored / "smollm2-shared")}


def tables(stored: Path = STORED) -> dict[str, str]:
    """Markdown by the name of its block in RESULTS.md."""
    return {"flips": flips(stored / "embedded"), "same-contexts": others(stored / "smollm2-shared")}


def embedded(folder: Path) -> str:
    """Accuracy by length, its mean beyond the trained one, and the difference to SFT on the same long contexts."""
    rows = rows_of(load(folder))
    lines = _head("", "seeds", *_LENGTHS, "mean of 256 to 512", "minus SFT, long contexts")
    for label, cell in _EMBEDDED.items():
        row, other = rows[cell], rows["sft-long"]
        gap = "" if cell in ("base", "sft-long") else points(difference(row, other, _LONG, shared=False))
        lines.append(line([label, str(len(row.outcomes)), *_means(row, _LENGTHS), f"{row.mean(_LONG):.1f}", gap]))
    return "\n".join(lines)


def real(folder: Path) -> str:
    """Sub-EM by length, and the difference to short SFT at the longer one and by the mean of both."""
    rows = rows_of(load(folder))
    lengths, compared = ("alone", "1024", "2048"), (("2048",), ("1024", "2048"))
    lines = _head("", "trained on", "seeds", *map(number, lengths), "at 2,048", "both")
    for (label, trained), cell in _REAL.items():
        row, other = rows[cell], rows["sft-short"]
        gaps = ["" if row is other else points(difference(row, other, each, shared=True)) for each in compared]
        lines.append(line([label, trained, str(len(row.outcomes)), *_means(row, lengths), *gaps]))
    return "\n".join(lines)


def others(folder: Path) -> str:
    """Rows of the real model minus others than short SFT, in sub-EM by length and by F1."""
    rows = rows_of(load(folder))
    columns = (("alone",), ("1024",), ("2048",), ("1024", "2048"))
    lines = _head("", "seeds", "alone", "1,024", "2,048", "both", "F1, both")
    for name, other in _OTHERS:
        row, base = rows[name], rows[other]
        seeds = sorted(common_seeds(row, base))
        gaps = [points(difference(row, base, lengths, shared=True)) for lengths in columns]
        gaps.append(points(difference(row, base, columns[-1], shared=True, score=Row.f1)))
        lines.append(line([f"{name} minus {other}", " ".join(map(str, seeds)), *gaps]))
    return "\n".join(lines)


def flips(folder: Path) -> str:
    """What a tenth and three tenths of flipped labels cost an objective."""
    rows = rows_of(load(folder))
    lines = _head("", "no flips", "10 %", "", "30 %", "")
    for label, cell in _FLIPPED.items():
        lines.append(line([label, f"{rows[cell].mean(_LONG):.1f}", *_worse(rows, cell, ("10", "30"))]))
    return "\n".join(lines)


def _worse(rows: Mapping[str, Row], cell: str, shares: Sequence[str]) -> list[str]:
    found = list[str]()
    for share in shares:
        row = rows[f"{cell}-flips-{share}"]
        found += [f"{row.mean(_LONG):.1f}", points(difference(row, rows[cell], _LONG, shared=False))]
    return found


def _means(row: Row, lengths: Sequence[str]) -> list[str]:
    return [f"{row.mean([length]):.1f}" for length in lengths]


def _head(*names: str) -> list[str]:
    return [line(names), line(["---", *["---:"] * (len(names) - 1)])]
