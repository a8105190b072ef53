"""Preference pairs built from raw long documents."""

from collections.abc import Sequence
from typing import Any

from data_modules.base import PairDataModule
from data_modules.builders.on_the_fly import OnTheFly
from data_modules.builders.sources.base import Source
from data_modules.builders.sources.documents import DocumentFiles
from data_modules.records import PreferencePair
from data_modules.rows.accounts import OTHER_SPLIT
from data_modules.splitting import share_of


class DocumentDataModule(PairDataModule):
    """Pairs that a model builds from raw documents before training (LongPO, LOGO).

    One process builds them. An interrupted build continues, and later runs with the same settings and files read it
    from its cache.

    Args:
        source: a file or folder of documents (`DocumentFiles`), or the synthetic world.
        build: recipe, generator and cache.
        val_source: documents of the validation pairs; `None` holds out `val_fraction`.
        val_fraction: share of the documents that is held out, with all their pairs, if there is no `val_source`; 0
            holds out none.
        **rows: see `PairDataModule`: budgets, lengths, positions, seed.
    """

    def __init__(
        self,
        source: Source | str,
        build: OnTheFly,
        val_source: Source | str | None = None,
        val_fraction: float = 0.05,
        **rows: Any,
    ) -> None:
        super().__init__(**rows)
        self.source = _source(source)
        self.val_source = None if val_source is None else _source(val_source)
        self.build, self.val_fraction = build, val_fraction

    def prepare_data(self) -> None:
        """Build what is not in the cache; Lightning calls it on one process."""
        for source in (self.source, self.val_source):
            if source is not None:
                self.build.prepare(source)

    def pairs(self, split: str) -> Sequence[PreferencePair]:
        """Pairs of one split, in the documents' order; there is no test split."""
        if split == "test":
            return []
        selection = self._select(split)
        if split == "val" and self.val_source is not None:
            return self.build.pairs(self.val_source, selection)
        fraction = 0.0 if self.val_source is not None else self.val_fraction
        pairs = self.build.pairs(self.source, selection)
        return selection.filter(OTHER_SPLIT[split], share_of(split, pairs, fraction, self.seed))


def _source(source: Source | str) -> Source:
    return DocumentFiles(source) if isinstance(source, str) else source
