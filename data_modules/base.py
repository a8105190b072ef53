"""What every data module shares: pairs -> tokens -> packed batches, resumable and distributed-aware."""

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from lightning.pytorch import LightningDataModule
from torchdata.stateful_dataloader import StatefulDataLoader

from data_modules.files.content import Content, content_of_pairs
from data_modules.records import PreferencePair
from data_modules.rows import data_report
from data_modules.rows.accounts import Account, Selection, account_of
from data_modules.rows.dealing.bundles import RowsBy, SharePrompts, check_share_prompts
from data_modules.rows.dealing.dealer import DealtRows, RowDealer
from data_modules.rows.encoding import EncodedPair
from data_modules.rows.given_pairs import check_sequence, checked_pairs
from data_modules.rows.positions import PositionSynthesis
from data_modules.rows.split_report import SplitReport
from data_modules.rows.stores.store_folder import StoreFolder
from data_modules.rows.stores.token_store import Examples, TokenStore
from data_modules.rows.tokenising import Tokenising, with_progress
from data_modules.rows.truncation import LengthPolicy, OnOverlength, Truncation
from data_modules.splitting import shared_documents
from lit_longpo.batch import PackedBatch, PreferenceBatch, Views
from lit_longpo.errors import InputError
from lit_longpo.planning.inputs.row import LongestExample
from lit_longpo.policy import PromptFormat
from lit_longpo.ranges import MOST_TOKENS, MOST_WORKERS, SEEDS, check_numbers

_SPLITS = {"fit": ("train", "val"), "validate": ("val",), "test": ("test",)}


class PairDataModule(LightningDataModule, ABC):
    """Turns the pairs of a subclass into packed batches for the views of an objective.

    Args:
        max_tokens: tokens of one packed row at most: the batch size in tokens.
        max_examples: examples of one row at most; `None` means as many as fit.
        rows_by: cut rows by the tokens that the "objective" scores, or by those of "all_views" of a record. The latter
            are the same for every objective, so all objectives see the same pairs in the same steps.
        max_length: tokens of one sequence (prompt and longest response) at most; `None` means any length.
        on_overlength: what happens to longer sequences: "error", "truncate" the context, or "skip" the pair.
        truncation: cut the "middle" of the context, or drop whole distractor "passages".
        prefix_sharing: let responses of one prompt share it; False gives each its own copy.
        share_prompts: store the common beginning of a row's prompts (128 tokens or more) once, with the values and
            gradients of separate prompts. "auto" leaves rows as they are dealt. "together" also deals examples of one
            document into one row, so a step has more examples, of fewer documents. `None` computes every prompt
            separately.
        positions: synthesised position ids of long prompts (LOGO); `None` means true positions.
        long_positions: "synthesised" fills long prompts with the short context's tokens, at `positions`, so no truly
            long row is computed (an experiment; single-turn pairs only).
        seed: of the order of training examples, and of everything that a data module draws.
        num_workers: processes that pack batches.
        token_cache: folder that keeps tokenised examples for later runs with the same data and settings. `None` keeps
            them in memory, except texts above 2 MB, which go to `token_cache` in the run's root folder.
        views: what the objective wants scored; the command line fills it in.
        prompt_format: tokenizer and template; the command line fills it in.
    """

    def __init__(
        self,
        max_tokens: int = 8192,
        max_examples: int | None = None,
        max_length: int | None = None,
        on_overlength: OnOverlength = "error",
        truncation: Truncation = "middle",
        prefix_sharing: bool = True,
        positions: PositionSynthesis | None = None,
        long_positions: Literal["true", "synthesised"] = "true",
        seed: int = 0,
        num_workers: int = 0,
        token_cache: str | None = None,
        rows_by: RowsBy = "objective",
        views: Views | None = None,
        prompt_format: PromptFormat | None = None,
        share_prompts: SharePrompts | None = "auto",
    ) -> None:
        super().__init__()
        self.share_prompts = share_prompts
        check_share_prompts(share_prompts, prefix_sharing=prefix_sharing, rows_by=rows_by)
        self.max_tokens, self.max_examples = max_tokens, max_examples
        self.lengths = LengthPolicy(max_length, on_overlength, truncation)
        self.prefix_sharing, self.positions = prefix_sharing, positions
        self.long_from_short = long_positions == "synthesised"
        self._check_positions()
        self.seed, self.num_workers = seed, num_workers
        check_numbers(self, "data.init_args.", max_tokens=(1, MOST_TOKENS), max_examples=(1, MOST_TOKENS))
        check_numbers(self, "data.init_args.", num_workers=(0, MOST_WORKERS), seed=SEEDS)
        self.views, self.prompt_format = views, prompt_format
        self.token_cache, self.rows_by = token_cache, rows_by
        self.source_name: str | None = None  # its name among several
        self.splits: dict[str, SplitReport] = {}
        self.documents: dict[str, int] = {}
        self._selections: dict[str, Selection] = {}
        self._rows: DealtRows | None = None  # of the training
        self._encoded: dict[str, Examples] = {}
        self._fingerprint: str | None = None

    def _check_positions(self) -> None:
        if self.long_from_short and self.positions is None:
            raise InputError(
                "expected `data.init_args.positions` with `long_positions: synthesised`, got none; for example "
                "positions: {target_length: 65536}"
            )

    @abstractmethod
    def pairs(self, split: str) -> Sequence[PreferencePair]:
        """Pairs of "train", "val" or "test"; an empty sequence if there is no such split."""

    def content(self, split: str) -> Content | None:
        """What `pairs(split)` depends on, known without reading them; `None` if it is not."""
        return None

    def longest_example(self, root: Path) -> LongestExample | None:
        """The largest training example, for `plan`; `None` if finding it would take long.

        Args:
            root: the runs' root folder, which may hold stored tokens.
        """
        return None

    def setup(self, stage: str) -> None:
        """Tokenise once what the stage needs."""
        for split in _SPLITS.get(stage, ()):
            if split not in self._encoded:
                self._encoded[split] = self._tokenised(split)
        self._settle()
        if "train" in self._encoded:
            self.records()  # a sum that is wrong is said before a model is loaded
        self.documents = shared_documents({name: store.documents for name, store in self._encoded.items()})
        data_report.warn_of_lengths(self.splits)
        data_report.write(self.reports, self.trainer)

    def _settle(self) -> None:
        """Called when all splits are tokenised; does nothing for a single source."""

    def train_dataloader(self) -> StatefulDataLoader:
        """Training rows, shuffled every epoch."""
        overfitting = getattr(self.trainer, "overfit_batches", 0) > 0
        loader = self._loader("train", shuffle=not overfitting)
        self._rows = None if overfitting else DealtRows(loader.batch_sampler, self._encoded["train"])
        return loader

    def val_dataloader(self) -> StatefulDataLoader | list[PreferenceBatch]:
        """Validation rows in file order; nothing if there is no validation split."""
        return self._loader("val", shuffle=False) if self._encoded["val"] else []

    def test_dataloader(self) -> StatefulDataLoader:
        """Test rows in file order."""
        return self._loader("test", shuffle=False)

    def reference_dataloader(self) -> Iterator[PackedBatch]:
        """Every row that the reference has to score, once; each rank gets its share."""
        if not self._views.reference:
            return iter(())
        return self._dealer.reference_rows(self._encoded, self.trainer)

    def fingerprint(self) -> str | None:
        """Hash of the tokenised training examples; `None` before there are any."""
        if self._fingerprint is None and "train" in self._encoded:
            self._fingerprint = self._encoded["train"].fingerprint()
        return self._fingerprint

    def first_rows(self, num_examples: int) -> Iterator[PreferenceBatch]:
        """The rows with which this rank's training begins, as many on every rank; none if rows are not dealt.

        Args:
            num_examples: roughly how many examples each rank's rows hold in all.
        """
        if self._rows is None:
            return
        encoded, sampler = self._encoded["train"], self._rows.sampler
        per_row = len(encoded) / (len(sampler) * sampler.num_replicas)
        for row in sampler.batches(0)[: math.ceil(num_examples / per_row)]:
            yield self._dealer.collator(encoded)([encoded[number] for number in row])

    def planned(self, epoch: int, start: int, end: int) -> Iterator[str] | None:
        """Names of the examples in this rank's training rows from `start` to `end`; `None` if rows were not dealt."""
        return None if self._rows is None else self._rows.names(epoch, start, end)

    def account(self, rows: Mapping[int, int]) -> str | None:
        """What became of every record that was read for training, in a line; `None` if rows were not dealt.

        Args:
            rows: how many rows each rank has trained on, by epoch.

        Raises:
            LostRecordsError: records are lost or doubled.
        """
        return None if self._rows is None else self.records().line(self._rows.num_trained(rows))

    def records(self) -> Account:
        """How many training records were read, and how many of them became examples."""
        report = self.splits["train"]
        return account_of(report.selection, report.lengths, len(self._encoded["train"]))

    @cached_property
    def _dealer(self) -> RowDealer:
        """Made late, since subclasses may change the settings."""
        rows = (self.max_tokens, self.max_examples, self.share_prompts, self.prefix_sharing)
        return RowDealer(*rows, self.seed, self.num_workers)

    def _loader(self, split: str, *, shuffle: bool) -> StatefulDataLoader:
        return self._dealer.loader(split, self._encoded[split], self.trainer, shuffle=shuffle)

    def _select(self, split: str) -> Selection:
        """Start counting what becomes of the records that are read for a split."""
        self._selections[split] = selection = Selection()
        return selection

    @property
    def fills_by_sharing(self) -> bool:
        """Whether rows only keep their budget because prompts in them share their beginnings."""
        return self._dealer.fills_by_sharing

    @property
    def _views(self) -> Views:
        return self._linked[0]

    @property
    def _format(self) -> PromptFormat:
        return self._linked[1]

    @property
    def _linked(self) -> tuple[Views, PromptFormat]:
        if self.views is None or self.prompt_format is None:
            raise InputError(
                f"{type(self).__name__} needs `views` (objective.views) and `prompt_format` "
                "(policy.prompt_format()); the command line fills them in, from Python pass them"
            )
        return self.views, self.prompt_format

    def _tokenised(self, split: str) -> Examples:
        """The split's examples: from the store on disk if there is one, tokenised now if there is none."""
        tokenising, root = self._tokenising(), Path(self.trainer.default_root_dir if self.trainer else "")
        folder, report = self._store_folder(split, tokenising, root), SplitReport()
        name = split if self.source_name is None else f"{split} of {self.source_name}"

        def examples() -> Iterator[EncodedPair]:
            pairs = self._counted_pairs(split, report)
            # A store on disk is written by one process, tokens in memory are made by all.
            shown = folder is not None or self.trainer is None or self.trainer.is_global_zero
            taken = with_progress(pairs, name, shown=shown)
            checked = checked_pairs(type(self).__name__, taken) if self._is_of_others else taken
            yield from tokenising.examples(checked, report)
            report.selection.unread = self.unread_columns

        if folder is None:
            store = TokenStore.of(examples())
        else:
            store, notes = folder.open_or_write(examples, lambda: asdict(report))
            report = SplitReport.of(notes)
        self.splits[split] = report
        tokenising.log_found(name, report, store.lengths)
        return store

    def _counted_pairs(self, split: str, report: SplitReport) -> Sequence[PreferencePair]:
        """The split's pairs; the report then says how many records were read, and what became of them."""
        pairs = self.pairs(split)
        check_sequence(type(self).__name__, pairs)
        report.selection = self._selections.get(split) or Selection(len(pairs))
        if self._is_of_others:
            report.selection.filter(f"left out by {type(self).__name__}", pairs)
        return pairs

    @property
    def _is_of_others(self) -> bool:
        """Whether a class that is none of ours says what the pairs are."""
        return type(self).pairs.__module__.partition(".")[0] != "data_modules"

    def _tokenising(self) -> Tokenising:
        return Tokenising(
            prompt_format=self._format,
            views=self._views,
            lengths=self.lengths,
            prefix_sharing=self.prefix_sharing,
            positions=self.positions,
            long_from_short=self.long_from_short,
            every_view=self.rows_by == "all_views",
        )

    def _store_folder(self, split: str, tokenising: Tokenising, root: Path) -> StoreFolder | None:
        """Where a split's tokens are kept; `None` for memory."""
        content = self.content(split)
        if self.token_cache is None and (content is None or not content.is_kept):
            return None
        identity = content_of_pairs(self.pairs(split)) if content is None else content.identity
        return StoreFolder(Path(self.token_cache or root / "token_cache"), tokenising.key(identity))

    @property
    def unread_columns(self) -> Sequence[str]:
        """Columns of the records read so far that are ignored (`extra_columns: ignore`)."""
        return ()

    @property
    def reach(self) -> int:
        """Positions of the policy's longest sequence, over all splits tokenised so far; 0 before there are any."""
        return max((report.lengths.reach for report in self.splits.values()), default=0)

    @property
    def true_reach(self) -> int:
        """Positions of the longest sequence without synthesised positions, over all splits tokenised so far."""
        true = (report.lengths.reach for report in self.splits.values() if not report.is_stretched)
        return max(true, default=0)

    @property
    def leaps(self) -> bool:
        """Whether any long prompt tokenised so far has synthesised positions."""
        return any(report.is_stretched for report in self.splits.values())

    def reports(self) -> dict[str, Any]:
        """What `data_report.json` in the run's folder says, by topic; subclasses add theirs."""
        return data_report.topics(self.splits) | {"documents": self.documents}
