"""Preference pairs built from question-answering sets with supporting passages."""

import logging
from collections.abc import Sequence
from dataclasses import asdict
from functools import cache
from typing import Any, Literal

from data_modules.base import PairDataModule
from data_modules.builders.on_the_fly import OnTheFly
from data_modules.builders.sources.qa_files import QAFiles
from data_modules.files.record_files import existing_file
from data_modules.qa_sets.formats import QAFormat, read_corpus, read_qa
from data_modules.qa_sets.pairing import PairingReport, PairRecipe, RejectedFrom, build_pairs
from data_modules.records import Passage, PreferencePair, QARecord
from data_modules.rows.accounts import OTHER_SPLIT, Selection
from data_modules.splitting import Item, first_of, share_of
from lit_longpo.errors import InputError
from lit_longpo.ranges import MOST, MOST_TOKENS, check_numbers

log = logging.getLogger(__name__)

OnUnbuildable = Literal["skip", "error"]


class QADataModule(PairDataModule):
    """Short and long pairs from MuSiQue, HotpotQA, 2WikiMultihopQA or SQuAD files.

    The short context has the supporting passages and a few distractors, the long context the same passages among as
    many distractors as fit. The chosen answer is the gold one, the rejected one a wrong answer of the same kind, from
    the short context if it has one. No distractor mentions a gold answer.

    Args:
        path: training questions: a MuSiQue, HotpotQA, 2WikiMultihopQA or SQuAD file (JSON or JSON Lines).
        format: how to read the files; "auto" looks at their first record.
        corpus: JSON list of {title, text} to draw distractors from; `None` takes the passages of the file's other
            questions.
        short_tokens: budget of the short context, in tokens of the policy's tokenizer.
        long_tokens: budget of the long context, likewise.
        short_distractors: distractors in the short context at most.
        rejected_from: where rejected answers come from: the "short" context, its supporting passages first, so that
            both answers occur in both contexts; or the distractors of the "long" one.
        num_rejected: wrong answers of each question; an objective that reads more of them gets more.
        turns: how many questions about the same supporting passages (SQuAD's about one paragraph) may become turns of
            one pair and share its long context; 1 makes a pair of every question.
        first: take the first contexts of `path`, with all of their questions, until there are that many questions,
            before any is held out; `None` takes all. The passages of the others still fill long contexts.
        on_unbuildable: what happens to records that make no pair: "skip" leaves them out and reports them, or "error".
        val_path: validation questions; `None` holds out `val_fraction` of `path`.
        val_fraction: share of the training questions' documents that is held out, with all their questions, if there is
            no `val_path`; 0 holds out none.
        test_path: test questions.
        build: let a model write the answers (`SoLoPORecipe`, `LOGORecipe`); `None` takes gold and wrong answers from
            the records. It has its own budgets; those above are then unused.
        **rows: see `PairDataModule`: budgets, lengths, positions, seed.
    """

    def __init__(
        self,
        path: str,
        format: QAFormat = "auto",
        corpus: str | None = None,
        short_tokens: int = 512,
        long_tokens: int = 2048,
        short_distractors: int = 2,
        rejected_from: RejectedFrom = "short",
        num_rejected: int = 1,
        turns: int = 1,
        first: int | None = None,
        on_unbuildable: OnUnbuildable = "skip",
        val_path: str | None = None,
        val_fraction: float = 0.05,
        test_path: str | None = None,
        build: OnTheFly | None = None,
        **rows: Any,
    ) -> None:
        super().__init__(**rows)
        self.path, self.format, self.corpus = path, format, corpus
        self.short_tokens, self.long_tokens = short_tokens, long_tokens
        self.short_distractors, self.rejected_from = short_distractors, rejected_from
        self.num_rejected, self.turns, self.first = num_rejected, turns, first
        self.on_unbuildable = on_unbuildable
        check_numbers(self, "data.init_args.", short_tokens=(1, MOST_TOKENS), long_tokens=(1, MOST_TOKENS))
        check_numbers(self, "data.init_args.", short_distractors=(0, MOST), num_rejected=(1, MOST), turns=(1, MOST))
        check_numbers(self, "data.init_args.", first=(1, MOST_TOKENS))
        self.val_path, self.val_fraction, self.test_path = val_path, val_fraction, test_path
        self.build = build
        self.built: dict[str, PairingReport] = {}

    def reports(self) -> dict[str, Any]:
        """Adds what was built from the records."""
        return {**super().reports(), "built": {name: asdict(report) for name, report in self.built.items()}}

    def prepare_data(self) -> None:
        """Let the model write answers that are not in the cache; Lightning calls it on one process."""
        if self.build is not None:
            for path in filter(None, (self.path, self.val_path, self.test_path)):
                self.build.prepare(self._source(path))

    def pairs(self, split: str) -> Sequence[PreferencePair]:
        """Pairs built from one split's questions, in file order; the same for the same seed."""
        return self._from_records(split) if self.build is None else self._from_model(split, self.build)

    def _from_model(self, split: str, build: OnTheFly) -> Sequence[PreferencePair]:
        path, selection = self._path_of(split), self._select(split)
        if path is not None:
            return build.pairs(self._source(path), selection)
        return [] if split == "test" else self._share(split, build.pairs(self._source(self.path), selection), selection)

    def _path_of(self, split: str) -> str | None:
        """The file of a split that has one of its own; train and, without one, val share `path`."""
        return {"val": self.val_path, "test": self.test_path}.get(split)

    def _share(self, split: str, items: Sequence[Item], selection: Selection) -> Sequence[Item]:
        fraction = 0.0 if self.val_path else self.val_fraction
        return selection.filter(OTHER_SPLIT[split], share_of(split, items, fraction, self.seed))

    def _source(self, path: str) -> QAFiles:
        first = self.first if path == self.path else None
        return QAFiles((path,), self.format, () if self.corpus is None else (self.corpus,), first)

    def _from_records(self, split: str) -> list[PreferencePair]:
        selection = self._select(split)
        records, pool = self._questions(split, selection)
        recipe = PairRecipe(
            self.short_tokens,
            self.long_tokens,
            self.short_distractors,
            num_rejected=max(self.num_rejected, self._views.num_rejected),
            turns=self.turns,
            seed=self.seed,
            rejected_from=self.rejected_from,
        )
        before, report = self.built.get(split), PairingReport()
        self.built[split] = report
        encode = self._format.encode
        count_tokens = cache(lambda text: len(encode(text)))  # the same passages fill the contexts of many questions
        pairs = build_pairs(records, pool, recipe, count_tokens, report)
        if report != before:  # questions about validation pairs build them once more
            self._log_or_refuse(split, report)
        selection.filtered["a further turn of one of these"] = report.questions - report.built
        selection.refused.update({reason: len(ids) for reason, ids in report.left_out.items()})
        return pairs

    def _questions(self, split: str, selection: Selection) -> tuple[Sequence[QARecord], list[Passage]]:
        """One split's questions, and the passages that further distractors come from."""
        path = self._path_of(split)
        if split == "test" and path is None:
            return [], []
        what = "a MuSiQue, HotpotQA, 2WikiMultihopQA or SQuAD file"
        argument = f"data.init_args.{f'{split}_path' if path else 'path'}"
        records = read_qa(existing_file(path or self.path, argument, what), self.format)
        selection.begin(records)
        if path:
            return records, self._pool(records)
        first = first_of(records, self.first)
        selection.filter(f"after `first: {self.first}`", first)
        return self._share(split, first, selection), self._pool(records)

    def _pool(self, records: Sequence[QARecord]) -> list[Passage]:
        if self.corpus is not None:
            what = "a JSON list of {title, text}"
            return read_corpus(existing_file(self.corpus, "data.init_args.corpus", what))
        passages = {passage.text: passage for record in records for passage in record.passages}
        return list(passages.values())

    def _log_or_refuse(self, split: str, report: PairingReport) -> None:
        """Log what was built; warn about, or refuse, records without a pair."""
        lines = [f"{split}: {line}" for line in report.lines()]
        if report.left_out and self.on_unbuildable == "error":
            raise InputError(
                f"expected a pair from every record; {'; '.join(lines)}; correct the records, or set "
                "`data.init_args.on_unbuildable: skip`"
            )
        log.info(lines[0])
        for line in lines[1:]:
            log.warning(line)
