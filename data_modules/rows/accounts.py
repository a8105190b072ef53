"""Accounts for every record that was read: trained on, filtered, refused, or not reached."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from data_modules.rows.truncation import SplitLengths
from lit_longpo.errors import LostRecordsError

Item = TypeVar("Item")
OTHER_SPLIT = {"train": "held out for validation", "val": "trained on"}  # whose the rest is, of two that share


@dataclass
class Selection:
    """Counts which of the records that were read for a split are in it.

    Args:
        read: records at the beginning.
        filtered: those that a setting left out, by reason.
        refused: those that nothing could be made of, by reason.
        unread: their columns that nothing reads, as a setting allows.
    """

    read: int = 0
    filtered: dict[str, int] = field(default_factory=dict)
    refused: dict[str, int] = field(default_factory=dict)
    unread: Sequence[str] = ()

    @property
    def left(self) -> int:
        """Records that are neither filtered nor refused."""
        return self.read - sum(self.filtered.values()) - sum(self.refused.values())

    def begin(self, items: Sequence[Item]) -> Sequence[Item]:
        """Note how many records were read; returns them."""
        self.read = len(items)
        return items

    def filter(self, reason: str, items: Sequence[Item]) -> Sequence[Item]:
        """Count the records that a setting has left out; returns the others."""
        self.filtered[reason] = self.filtered.get(reason, 0) + self.left - len(items)
        return items


@dataclass(frozen=True)
class Account:
    """What became of the training records.

    Args:
        read: number of records read.
        examples: how many of them became examples.
        filtered: how many a setting left out, by reason.
        refused: how many nothing could be made of, by reason.
    """

    read: int
    examples: int
    filtered: Mapping[str, int]
    refused: Mapping[str, int]

    def line(self, trained: int) -> str:
        """The account in words, once its sum is checked.

        Raises:
            LostRecordsError: records are lost or doubled.
        """
        filtered, refused = sum(self.filtered.values()), sum(self.refused.values())
        if self.read != self.examples + filtered + refused or not 0 <= trained <= self.examples:
            raise LostRecordsError(
                f"records are lost or doubled: {self.read} read, {self.examples} examples, {filtered} filtered, "
                f"{refused} refused, {trained} trained on; please report this"
            )
        parts = [f"{trained:,} trained on", f"{filtered:,} filtered{_reasons(self.filtered)}"]
        parts.append(f"{refused:,} refused{_reasons(self.refused)}")
        if trained < self.examples:
            parts.append(f"{self.examples - trained:,} not reached, as the training was over before")
        return f"records: {self.read:,} read = {' + '.join(parts)}"


def account_of(selection: Selection, lengths: SplitLengths, examples: int) -> Account:
    """The account of one source.

    Raises:
        LostRecordsError: records are lost or doubled.
    """
    if selection.left != lengths.examples:
        raise LostRecordsError(
            f"records are lost or doubled: {selection.left} were to be tokenised, {lengths.examples} were; please "
            "report this"
        )
    return Account(selection.read, examples, {**selection.filtered, "too long": lengths.skipped}, selection.refused)


def joined_account(accounts: Mapping[str, Account], left_out: Mapping[str, int], examples: int) -> Account:
    """One account of several sources.

    Args:
        accounts: by source.
        left_out: examples of a source whose documents another source validates on.
        examples: of all sources.
    """
    filtered, refused = dict[str, int](), dict[str, int]()
    for name, account in accounts.items():
        filtered |= {f"{name}, {reason}": count for reason, count in account.filtered.items()}
        refused |= {f"{name}, {reason}": count for reason, count in account.refused.items()}
    filtered |= {f"{name}, of a document that another source validates on": n for name, n in left_out.items()}
    return Account(sum(account.read for account in accounts.values()), examples, filtered, refused)


def _reasons(counts: Mapping[str, int]) -> str:
    found: Iterable[str] = (f"{reason}: {count:,}" for reason, count in counts.items() if count)
    return f" ({text})" if (text := "; ".join(found)) else ""
