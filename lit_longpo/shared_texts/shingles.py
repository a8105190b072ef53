"""Runs of characters that lines share wherever in them: shingles, a few of each line, chosen by what they say.

Schleimer, Wilkerson, Aiken: Winnowing: local algorithms for document fingerprinting, SIGMOD 2003. The smallest hash of
every window of successive shingles is chosen, so two lines with a common run of a shingle and a window choose a common
one. A wider window chooses some of what a narrower one does: windows may differ with the lengths of texts.
"""

import numpy as np
from numpy.typing import NDArray

_CHOSEN = 64  # shingles of a text at about most, whatever its length
_NARROWEST = 32  # shingles of a window
_BASE = np.uint64(0x9E3779B97F4A7C15)
_INVERSE = np.uint64(pow(int(_BASE), -1, 2**64))
_VARIED = 25  # different runs of four letters in a shingle that says something; leaders and rules have a few
_BLOCK = 1 << 20  # characters at once: 8 bytes each, a few times over


def window_for(length: int) -> int:
    """Successive shingles of which one is chosen, in a text of so many characters; a power of two."""
    window = _NARROWEST
    while 2 * length > _CHOSEN * window:  # a window chooses two of its width on average
        window *= 2
    return window


def chosen_shingles(text: str, size: int, window: int) -> set[int]:
    """64-bit hashes of some of a text's runs of `size` characters; of a text shorter than run and window none.

    Runs of dots, dashes or a word again and again are none. Two texts that share another run of `size + window - 1`
    characters share one of the hashes, also where the other's window is narrower.

    Of each window of so many successive shingles, a power of two, the one with the smallest hash is chosen.
    """
    overlap = size + window - 2  # a window that begins in a block ends so far behind it
    starts = range(0, max(len(text) - overlap, 0), _BLOCK)
    return {key for start in starts for key in _chosen(text[start : start + _BLOCK + overlap], size, window)}


def _chosen(text: str, size: int, window: int) -> list[int]:
    hashes = smallest = _hashes(text, size)
    width = 1
    while width < window:  # the smallest of twice as many
        smallest = np.minimum(smallest[:-width], smallest[width:])
        width *= 2
    found = np.unique(smallest)
    places = np.flatnonzero(hashes <= found[-1])  # few, and all that were chosen are among them
    runs = {
        key: text[place : place + size] for key, place in zip(hashes[places].tolist(), places.tolist(), strict=True)
    }
    return [key for key in found.tolist() if _says_something(runs[key])]


def _says_something(run: str) -> bool:
    most = len(run) - 3
    counts = (len({run[place : place + 4] for place in range(end)}) for end in (min(2 * _VARIED, most), most))
    return any(count >= _VARIED for count in counts)  # the first few of most runs are enough


def _hashes(text: str, size: int) -> NDArray[np.uint64]:
    """Hashes of all runs of `size` characters; overflow is meant. Shape: (len(text) - size + 1,)."""
    letters = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32).astype(np.uint64)
    powers, inverses = (np.cumprod(np.full(len(letters), base)) for base in (_BASE, _INVERSE))
    sums = np.concatenate([np.zeros(1, np.uint64), np.cumsum(letters * powers)])
    return _mixed((sums[size:] - sums[:-size]) * inverses[: len(letters) - size + 1])


def _mixed(hashes: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Bits spread over the whole word (splitmix64's last steps): sums of powers differ little in their low ones."""
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        hashes = (hashes ^ (hashes >> np.uint64(shift))) * np.uint64(factor)
    return hashes ^ (hashes >> np.uint64(31))
