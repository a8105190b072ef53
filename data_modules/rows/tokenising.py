"""Turns the pairs of a split into tokenised examples, and says what was found on the way."""

import hashlib
import json
import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from data_modules.records import PreferencePair
from data_modules.rows.encoding import EncodedPair, PairEncoder
from data_modules.rows.positions import PositionSynthesis
from data_modules.rows.seams import SeamComparison
from data_modules.rows.split_report import SplitReport
from data_modules.rows.truncation import LengthPolicy
from lit_longpo.batch import Views
from lit_longpo.errors import InputError
from lit_longpo.policy import PromptFormat
from lit_longpo.policy.prompts.thoughts import THINKS, THOUGHT
from lit_longpo.progress_bar import progress_bar

log = logging.getLogger(__name__)

VERSION = 16  # of what is stored; another one tokenises anew


@dataclass
class Tokenising:
    """Turns the pairs of a split into examples.

    Args:
        positions: synthesised position ids of long prompts; `None` means true positions.
        long_from_short: long prompts hold the short context's tokens.
        every_view: lengths are those of all views of a record, whatever the objective reads.
    """

    prompt_format: PromptFormat
    views: Views
    lengths: LengthPolicy
    prefix_sharing: bool = True
    positions: PositionSynthesis | None = None
    long_from_short: bool = False
    every_view: bool = False

    def key(self, content: str) -> str:
        """Hash (32 hex digits) of everything that the tokens of a split depend on; `content` is that of its pairs."""
        settings = (self.views, self.lengths, self.prefix_sharing, self.positions, self.long_from_short)
        parts = [VERSION, content, _identity(self.prompt_format), *map(repr, settings)]
        parts += ["every view"] * self.every_view  # without it, what it always was
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:32]

    def examples(self, pairs: Iterable[PreferencePair], report: SplitReport) -> Iterator[EncodedPair]:
        """Encode the pairs one by one; the report is complete with the last example.

        Raises:
            InputError: a pair is too long, or lacks what the objective reads.
        """
        encoder = PairEncoder(
            self.prompt_format,
            self.views,
            self.lengths,
            prefix_sharing=self.prefix_sharing,
            positions=self.positions,
            long_from_short=self.long_from_short,
            every_view=self.every_view,
        )
        seams = SeamComparison(self.prompt_format, self.views, long_from_short=self.long_from_short)
        told = report.counted(seams.compared(pairs), self.prompt_format, self.views)
        kept = (example for pair in told if (example := encoder.encode(pair, report.lengths)))
        for example in report.tokens.counted(kept, self.prompt_format.unknown_id):
            report.weighted += (example.weight, example.margin) != (1.0, 0.0)
            self._count_position(example, report)
            yield example
        report.seams = seams.report()
        report.cut_messages, report.rendered = encoder.fitter.num_cut_messages, encoder.fitter.num_rendered

    def log_found(self, split: str, report: SplitReport, lengths: NDArray[np.int64]) -> None:
        """Log what was found in a split.

        Raises:
            InputError: nothing can be learned from it.
        """
        for warning in report.warnings(self.views.num_rejected):
            log.warning(f"{split}: {warning}")
        if split.split()[0] == "train":
            self._log_ends(split)
        self._check_positions(split, report.positions)
        if warning := report.tokens.check(split):
            log.warning(warning)
        if report.weighted:
            log.info(
                f"{split}: {report.weighted} of {report.lengths.examples} records have a `weight`, which multiplies "
                "their loss, or a `margin`, which it subtracts inside the sigmoid; take these columns out if they mean "
                "something else (a reward model's difference)"
            )
        if len(lengths):
            log.info("%s: %s", split, _length_summary(lengths))

    def _log_ends(self, split: str) -> None:
        """What is trained as the end of answers, where the chat template has no token for it."""
        end = self.prompt_format.tokenizer.convert_ids_to_tokens(self.prompt_format.end_id)
        text = self.prompt_format.closing_text
        if self.prompt_format.leaves_answers_open:
            log.info(f"{split}: the chat template writes no end after answers; {end} is trained as their end")
        if text:
            log.warning(
                f"{split}: the chat template ends answers with {text!r}, which is text to this tokenizer: it is "
                f"trained, and {end} behind it; if the model knows it as a token, copy its tokenizer's files again"
            )

    def _count_position(self, example: EncodedPair, report: SplitReport) -> None:
        if self.positions is None or self.positions.scheme == "none":
            return
        long = [group for group in example.policy if group.context == "long"]
        if long:
            name = "stretched" if long[0].position_ids is not None else "too_long"
            report.positions[name] = report.positions.get(name, 0) + 1

    def _check_positions(self, split: str, counts: Mapping[str, int]) -> None:
        if not counts.get("too_long"):
            return
        assert self.positions is not None
        message = (
            f"{split}: {counts['too_long']} of {sum(counts.values())} long prompts leave no room below "
            f"`data.init_args.positions.target_length: {self.positions.target_length}` and keep their true positions"
        )
        if not counts.get("stretched"):
            raise InputError(f"{message}; raise it, or set `scheme: none` if that is what you want")
        log.warning(message)


def with_progress(pairs: Sequence[PreferencePair], split: str, *, shown: bool = True) -> Iterator[PreferencePair]:
    """The pairs as they are taken, under a bar with the time that is left if it is `shown` and on a terminal."""
    with progress_bar(shown=shown) as progress:
        if progress.disable:
            yield from pairs
        else:
            yield from progress.track(pairs, total=len(pairs), description=f"tokenising {split}")


def _identity(prompt_format: PromptFormat) -> list[str]:
    """Tokenizer and template, and what today they make of a text: chat templates may ask for the date."""
    from tokenizers import __version__ as tokenizers_version
    from transformers import __version__ as transformers_version

    tokenizer = prompt_format.tokenizer
    backend = getattr(tokenizer, "backend_tokenizer", None)
    rules = json.loads(backend.to_str()) if backend is not None else sorted(tokenizer.get_vocab().items())
    if isinstance(rules, dict):  # what the last call asked for stays in these two, and decides nothing here
        rules = {name: rule for name, rule in rules.items() if name not in ("truncation", "padding")}
    probe = prompt_format.encode_prompt("A context.", "A question?").ids
    answer = _answer(prompt_format)
    return [
        hashlib.sha256(json.dumps(rules).encode()).hexdigest(),
        type(tokenizer).__name__,
        repr(tokenizer.special_tokens_map),
        repr(getattr(tokenizer, "chat_template", None)),
        repr(prompt_format.template),
        repr((probe, answer)),
        f"transformers {transformers_version}, tokenizers {tokenizers_version}",
    ]


def _answer(prompt_format: PromptFormat) -> tuple[int, ...]:
    """Tokens of an answer; with thoughts, where the prompt opens them and none without can be trained."""
    try:
        return prompt_format.encode_response("An answer.")
    except InputError as error:
        try:
            return prompt_format.encode_response(f"{THINKS}\nA thought.\n{THOUGHT}\n\nAn answer.")
        except InputError:
            raise error from None


def _length_summary(lengths: NDArray[np.int64]) -> str:
    """Deciles of the tokens per example, in words."""
    ordered = np.sort(lengths)
    marks = [int(ordered[round(share * (len(ordered) - 1))]) for share in (0.0, 0.5, 0.9, 1.0)]
    return (
        f"{len(ordered):,} examples, {int(ordered.sum()):,} tokens; tokens per example: "
        f"shortest {marks[0]:,}, median {marks[1]:,}, nine tenths below {marks[2]:,}, longest {marks[3]:,}"
    )
