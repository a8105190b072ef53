"""A view of some examples of a store, without a copy."""

import hashlib
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from data_modules.rows.encoding import EncodedPair
from data_modules.rows.stores.token_store import Examples
from data_modules.splitting import Chosen
from lit_longpo.shared_texts import DocumentKeys


class KeptExamples(Examples):
    """What is left of a store's examples, in their order.

    Args:
        examples: all of them.
        numbers: which are left, ascending. Shape: (kept,).
    """

    def __init__(self, examples: Examples, numbers: NDArray[np.int64]) -> None:
        self._examples, self._numbers = examples, numbers
        self.names = Chosen(examples.names, numbers)
        self.sources = examples.sources

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Tokens that each example occupies in a row. Shape: (kept,)."""
        return self._examples.lengths[self._numbers]

    @property
    def reference_lengths(self) -> NDArray[np.int64]:
        """Tokens that each example occupies in a row of the reference. Shape: (kept,)."""
        return self._examples.reference_lengths[self._numbers]

    @property
    def documents(self) -> Mapping[str, DocumentKeys]:
        """Keys of what the examples are about."""
        return {source: keys.chosen(self._numbers) for source, keys in self._examples.documents.items()}

    def __len__(self) -> int:
        return len(self._numbers)

    def fingerprint(self) -> str:
        """Hash of the store's and of what is left of it (32 hex digits)."""
        numbers = self._numbers.astype("<i8").tobytes()
        return hashlib.sha256(self._examples.fingerprint().encode() + numbers).hexdigest()[:32]

    def item(self, index: int) -> EncodedPair:
        """The example, as the store makes it."""
        return self._examples.item(int(self._numbers[index]))
