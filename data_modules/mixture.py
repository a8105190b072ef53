"""Several sources in one training: for example short contexts beside long ones, so that they are not forgotten."""

import logging
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from inspect import signature
from typing import Any, get_args

from torchdata.stateful_dataloader import StatefulDataLoader

from data_modules.base import PairDataModule
from data_modules.records import PreferencePair
from data_modules.rows.accounts import Account, account_of, joined_account
from data_modules.rows.dealing.bundles import SharePrompts
from data_modules.rows.repeated_pairs import RepeatedPairs, opposed_across
from data_modules.rows.stores.mixed_examples import MixedExamples, Smaller, SourceCounts, counts_of
from data_modules.rows.stores.token_store import Examples
from data_modules.splitting import held_out_elsewhere
from lit_longpo.batch import Views
from lit_longpo.errors import InputError, UserError
from lit_longpo.policy import PromptFormat
from lit_longpo.ranges import check_scale

log = logging.getLogger(__name__)

_MOST_COMPARED = 100_000_000  # tokens of a mixture's examples that are gone through at every start, some seconds
_OF_ROWS = {  # what the mixture alone decides, and what a source has that says nothing
    name: signature(PairDataModule).parameters[name].default
    for name in ("max_tokens", "max_examples", "num_workers", "share_prompts")
}


class MixtureDataModule(PairDataModule):
    """Trains on several data modules at once, each with a share of every epoch.

    A row may hold examples of all sources. No source trains on a document that another one holds out. The sources
    decide how their examples are made (`max_length`, `on_overlength`, `truncation`, `prefix_sharing`, `positions`,
    `token_cache`, `rows_by`, what they hold out); rows and their order are this module's. Validation and test have
    every example of every source once.

    Args:
        sources: data modules, by the name that reports and records give them.
        weights: share of an epoch's examples, by source, in any unit. `None` takes every example of all once.
        smaller: what happens to a source that has too few examples for its weight. "repeat" ends an epoch when every
            example of every source has come, so smaller sources repeat. "stop" ends it when the first source has no
            more, so no example repeats, and larger sources give another part in every epoch.
        max_tokens: tokens of one packed row at most: the batch size in tokens.
        max_examples: examples of one row at most; `None` means as many as fit.
        seed: of the order of training examples.
        num_workers: processes that pack batches.
        views: what the objective wants scored; the command line fills it in.
        prompt_format: tokenizer and template; the command line fills it in.
        share_prompts: store the common beginning of a row's prompts once. "together" also deals examples of one
            document into one row, whatever their sources. `None` computes every prompt separately.

    Raises:
        InputError: there is no source, or the weights are not those of the sources.
    """

    def __init__(
        self,
        sources: dict[str, PairDataModule],
        weights: dict[str, float] | None = None,
        smaller: Smaller = "repeat",
        max_tokens: int = 8192,
        max_examples: int | None = None,
        seed: int = 0,
        num_workers: int = 0,
        views: Views | None = None,
        prompt_format: PromptFormat | None = None,
        share_prompts: SharePrompts | None = "auto",
    ) -> None:
        super().__init__(
            max_tokens=max_tokens,
            max_examples=max_examples,
            seed=seed,
            num_workers=num_workers,
            views=views,
            prompt_format=prompt_format,
            share_prompts=share_prompts,
            prefix_sharing=all(source.prefix_sharing for source in sources.values()),
            rows_by="all_views" if any(source.rows_by == "all_views" for source in sources.values()) else "objective",
        )
        _check(sources, weights, smaller)
        if weights is not None and share_prompts == "together":
            raise InputError(
                "expected no `data.init_args.weights` with `share_prompts: together`, which deals every example once; "
                "type --data.init_args.share_prompts auto"
            )
        self.sources, self.weights, self.smaller = sources, weights, smaller
        for name, source in sources.items():
            if unused := [row for row in _OF_ROWS if getattr(source, row) != _OF_ROWS[row]]:
                log.warning(
                    f"{name}: {' and '.join(unused)} of a source have no effect, the mixture's apply; leave them out"
                )
        self.counts: dict[str, SourceCounts] = {}
        self.opposed: int | None = None  # training pairs that those of another source undo; `None`: not looked for
        self.left_out: dict[str, int] = {}  # training examples about documents that another source holds out

    def prepare_data(self) -> None:
        """Let every source prepare its data."""
        for name, source in self.sources.items():
            with _settings_of(name):
                source.prepare_data()

    def train_dataloader(self) -> StatefulDataLoader:
        """Training rows, shuffled every epoch.

        Raises:
            InputError: `overfit_batches` asks for the first rows in file order, which have no weights.
        """
        if self.weights is not None and getattr(self.trainer, "overfit_batches", 0) > 0:
            raise InputError(
                "expected no `data.init_args.weights` with `trainer.overfit_batches`, which takes rows in file order, "
                "one source after the other; set `weights: null`, or use `trainer.limit_train_batches`"
            )
        return super().train_dataloader()

    def pairs(self, split: str) -> Sequence[PreferencePair]:
        """Pairs of all sources, one source after the other, under the names that rows give their examples."""
        pairs = list[PreferencePair]()
        for name, source in self.sources.items():
            with _settings_of(name):
                pairs += [replace(each, id=f"{name}/{each.id}").read_from(each.origin) for each in source.pairs(split)]
        return pairs

    def reports(self) -> dict[str, Any]:
        """As of every data module; also how many examples of each source an epoch has, and the sources' own reports."""
        own = {name: _own_reports(source) for name, source in self.sources.items()}
        mixture = {name: asdict(counts) for name, counts in self.counts.items()}
        return {
            **super().reports(),
            "mixture": mixture,
            "sources": own,
            "held_out_elsewhere": self.left_out,
            "opposed_across_sources": self.opposed,
        }

    def records(self) -> Account:
        """How many training records the sources have read, and how many of them became examples."""
        reports = {name: source.splits["train"] for name, source in self.sources.items()}
        kept = {name: report.lengths.examples - report.lengths.skipped for name, report in reports.items()}
        accounts = {name: account_of(report.selection, report.lengths, kept[name]) for name, report in reports.items()}
        return joined_account(accounts, self.left_out, len(self._encoded["train"]))

    def _tokenised(self, split: str) -> MixedExamples:
        parts = dict[str, Examples]()
        for name, source in self.sources.items():
            source.views, source.prompt_format, source.trainer = self.views, self.prompt_format, self.trainer
            source.source_name = name
            with _settings_of(name):
                parts[name] = source._tokenised(split)
            self.splits[f"{split} of {name}"] = source.splits[split]
        return MixedExamples(parts)

    def _settle(self) -> None:
        """Train on nothing that another source validates on; then say what an epoch has of each source."""
        train = self._encoded.get("train")
        if not isinstance(train, MixedExamples):
            return
        elsewhere = held_out_elsewhere({split: store.documents for split, store in self._encoded.items()})
        for name, numbers in elsewhere.items():
            if len(numbers):
                self.left_out[name] = _told_left_out(name, len(numbers), train.sizes[name])
        train = train.without(elsewhere)
        self.counts = counts_of(train.sizes, self.weights, self.smaller)
        train.set_shares(self.counts)
        self._encoded["train"] = train
        self._look_across(train)
        for name, counts in self.counts.items():
            log.info(f"{name}: an epoch has {counts.per_epoch:,} ({counts.weight:.0%}) of {counts.examples:,}")

    def _look_across(self, train: MixedExamples) -> None:
        """Say how many pairs another source undoes; each source has said so of its own."""
        if not any(view.role == "rejected" for view in self._views.policy):
            return
        if int(train.lengths.sum()) > _MOST_COMPARED:
            log.info("pairs that those of another source undo are not looked for in more than 100 million tokens")
            return
        sources = [RepeatedPairs() for _ in self.sources]
        for said, (_, examples) in zip(sources, train.parts, strict=True):
            for example in examples:
                said.add(example)
        self.opposed = opposed_across(sources)
        if self.opposed:
            log.warning(
                f"train: {self.opposed:,} of {len(train):,} pairs prefer, in the same context, the answer that a pair "
                "of another source rejects to the one that it prefers: they undo each other, keep one of the two"
            )


@contextmanager
def _settings_of(name: str) -> Iterator[None]:
    """Let what a source refuses name its settings where they are: the mixture has none of them to type.

    Raises:
        UserError: what was raised inside.
    """
    try:
        yield
    except UserError as error:
        error.args = tuple(_below(name, said) if isinstance(said, str) else said for said in error.args)
        raise


def _below(name: str, said: str) -> str:
    """A message about `data.init_args.path` or `--data.path` as one about the settings of a source."""
    typed = re.sub(r"--data\.(?!init_args\b)", f"--data.sources.{name}.", said)
    return typed.replace("data.init_args.", f"data.init_args.sources.{name}.init_args.")


def _check(sources: Mapping[str, PairDataModule], weights: Mapping[str, float] | None, smaller: str) -> None:
    if not sources:
        raise InputError(
            "expected at least one data module in `data.init_args.sources`, got none; for example "
            "`long: {class_path: PreferenceDataModule, init_args: {path: pairs.jsonl}}`"
        )
    if smaller not in get_args(Smaller):
        raise InputError(f"expected `data.init_args.smaller` of {' or '.join(get_args(Smaller))}, got {smaller!r}")
    if weights is not None and weights.keys() != sources.keys():
        raise InputError(
            f"expected `data.init_args.weights` for the sources {', '.join(sources)}, got some for "
            f"{', '.join(weights) or 'none'}; name each source once"
        )
    if inner := [name for name, source in sources.items() if isinstance(source, MixtureDataModule)]:
        raise InputError(
            f"expected sources that are not mixtures, got a mixture as {inner[0]!r}; name its sources in this "
            "mixture's `data.init_args.sources`, and multiply their weights"
        )
    for name, weight in (weights or {}).items():
        check_scale(f"data.init_args.weights.{name}", weight, "the share of an epoch, for example 0.2")


def _told_left_out(name: str, count: int, total: int) -> int:
    """How many training examples of a source are left out, said in the log."""
    if count == total:
        raise InputError(
            f"expected training examples of {name!r} about documents that no other source validates on, got none of "
            f"{total}; set `val_fraction: 0` for it or for the source that has the same documents"
        )
    log.warning(
        f"{name}: {count:,} of {total:,} training examples are left out: another source validates on their documents"
    )
    return count


def _own_reports(source: PairDataModule) -> dict[str, Any]:
    """What a source reports that every data module does not: what it was built from, for example."""
    common = PairDataModule.reports(source)
    return {name: report for name, report in source.reports().items() if name not in common}
