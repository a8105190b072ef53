"""Preference pairs that exist already, in the field's formats: files, folders, or a data set by name."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from data_modules.base import PairDataModule
from data_modules.files.content import Content, content_of_source
from data_modules.files.record_files import check_splits, is_local
from data_modules.formats.base import RecordFormat
from data_modules.formats.loading import Keep, keep_verified, load_pairs, stream_pairs
from data_modules.formats.parser import ExtraColumns
from data_modules.formats.reader import RecordReader
from data_modules.records import PreferencePair
from data_modules.rows.accounts import OTHER_SPLIT
from data_modules.rows.longest import lengths_of, longest_of
from data_modules.rows.split_report import SplitReport
from data_modules.splitting import first_of, share_of
from lit_longpo.planning.inputs.row import LongestExample
from lit_longpo.ranges import MOST_TOKENS, check_numbers


class PreferenceDataModule(PairDataModule):
    """Pairs from files or from a data set, in any known format; only what the objective reads is required.

    The project's own records have `question`, `long_context`, `short_context`, `chosen`, `rejected` (a list) and may
    have `id`, `answers`, `supporting`, `turns`, `system`, `history` and `followup`; data_modules/formats/README.md
    lists the other formats. A malformed record is an error that names file, line and field.

    Args:
        path: training pairs: a `.jsonl`, `.json` (both also with `.gz`), `.parquet`, `.csv` or `.tsv` file; a folder of
            these, or of `Dataset.save_to_disk`; or a name that `datasets` knows.
        split: split of the data set to train on; files have none.
        val_path: validation pairs, in the same forms; `None` takes `val_split`, or `val_fraction` of `path`.
        val_split: split of the data set to validate on.
        val_fraction: share of the long contexts of `path` that is held out, with all their pairs, if there is neither;
            0 holds out none.
        test_path: test pairs, in the same forms.
        test_split: split of the data set to test on.
        first: take the first contexts of `path`, with all of their pairs, until there are that many pairs, before any
            is held out; `None` takes all.
        keep: which pairs to train on, by their verifiers' label: "all", "not_worse" (without those whose rejected
            answer was found better) or "verified" (only those whose chosen answer was found better).
        format: layout of the records: "pairs" (ours), "trl", "prompt_completion", "messages", "ultrafeedback", "tulu",
            "openrlhf", "sharegpt", "alpaca", "hh", "openai", "compared" or a class of yours; "auto" looks at the first
            record of each source.
        columns: our name -> the data's, if columns have other names, for example `{long_context: document, question:
            ask}`.
        extra_columns: whether columns that the format does not know are an "error", or named in the log ("ignore").
        **rows: see `PairDataModule`: budgets, lengths, positions, seed.
    """

    def __init__(
        self,
        path: str,
        split: str = "train",
        val_path: str | None = None,
        val_split: str | None = None,
        val_fraction: float = 0.05,
        test_path: str | None = None,
        test_split: str | None = None,
        keep: Keep = "all",
        format: RecordFormat | str = "auto",
        columns: Mapping[str, str] | None = None,
        extra_columns: ExtraColumns = "error",
        first: int | None = None,
        **rows: Any,
    ) -> None:
        super().__init__(**rows)
        self.path, self.split = path, split
        self.val_path, self.val_split, self.val_fraction = val_path, val_split, val_fraction
        self.test_path, self.test_split = test_path, test_split
        self.keep, self.first = keep, first
        check_numbers(self, "data.init_args.", first=(1, MOST_TOKENS))
        self.reader = RecordReader(format, columns or {}, extra_columns)

    def pairs(self, split: str) -> Sequence[PreferencePair]:
        """Pairs of one split, in file order."""
        source = self._source_of(split)
        if source is not None:
            return self._read(*source)
        if split == "test":
            return []
        selection = self._select(split)
        pairs = selection.begin(self._read(self.path, self.split, "data.init_args.path"))
        pairs = selection.filter(f"not `keep: {self.keep}`", keep_verified(pairs, self.keep, "data.init_args.keep"))
        pairs = selection.filter(f"after `first: {self.first}`", first_of(pairs, self.first))
        fraction = 0.0 if self._source_of("val") else self.val_fraction
        return selection.filter(OTHER_SPLIT[split], share_of(split, pairs, fraction, self.seed))

    @property
    def unread_columns(self) -> Sequence[str]:
        """Those that `extra_columns: ignore` leaves out."""
        return self.reader.unread

    def content(self, split: str) -> Content | None:
        """Files and settings that a split's pairs are read by."""
        source = self._source_of(split)
        if source is not None:
            return content_of_source(*source, self.reader)
        if split == "test":
            return None
        held_out: tuple[object, ...] = (split, self.val_fraction, self.seed, self.keep, self._source_of("val") is None)
        if self.first is not None:  # without it, what it always was
            held_out += (self.first,)
        return content_of_source(self.path, self.split, "data.init_args.path", (self.reader, held_out))

    def longest_example(self, root: Path) -> LongestExample | None:
        """The largest training example, of tokens on disk or of a local file that fits into memory."""
        content = self.content("train") if is_local(self.path) else None
        if content is None:
            return None
        tokenising = self._tokenising()
        folder = self._store_folder("train", tokenising, root)
        if folder is not None and (store := folder.opened()):
            largest = store[int(store.lengths.argmax())]
            return lengths_of(largest, len(store), f"the longest of {len(store):,} examples in {folder.path}")
        if content.is_large:
            return None
        pairs = self._read(self.path, self.split, "data.init_args.path")
        return longest_of(pairs, lambda some: tokenising.examples(some, SplitReport()), self.path)

    def _read(self, source: str, part: str, argument: str) -> Sequence[PreferencePair]:
        content = content_of_source(source, part, argument, None)
        read = stream_pairs if content is not None and content.is_large else load_pairs
        return read(source, part, argument, self.reader)

    def _source_of(self, split: str) -> tuple[str, str, str] | None:
        """Where a split's own pairs lie: source, split of it, and the setting that names it; `None` without any."""
        sources = {"val": (self.val_path, self.val_split), "test": (self.test_path, self.test_split)}
        path, part = sources.get(split, (None, None))
        if path is None and part is None:
            return None
        if path is None:
            check_splits(self.path, str(part), f"data.init_args.{split}_split", f"set `data.init_args.{split}_path`")
        argument = f"data.init_args.{split}_path" if path else "data.init_args.path"
        return path or self.path, part or self.split, argument
