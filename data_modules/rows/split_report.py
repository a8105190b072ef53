"""What was found in a split while it was tokenised: counted record by record, kept beside its tokens, said in lines."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, fields, is_dataclass
from itertools import pairwise
from typing import Any

from data_modules.records import PreferencePair
from data_modules.rows.accounts import Selection
from data_modules.rows.seams import SeamReport
from data_modules.rows.suspect_texts import SuspectTexts
from data_modules.rows.token_checks import TokenChecks
from data_modules.rows.truncation import SplitLengths
from lit_longpo.batch import Views
from lit_longpo.policy import PromptFormat


@dataclass
class SplitReport:
    """What was found in a split while it was tokenised.

    Args:
        lengths: what the length policy did.
        tokens: what the tokens say about the texts.
        seams: whether prompt and answers, tokenised apart, have the tokens of the joint text.
        positions: long prompts that were "stretched" to synthesised positions, and that were "too_long" for it.
        unused: records with more rejected answers than the objective uses.
        weighted: records with a weight, or a margin, of their own.
        cut_messages: whole messages whose middle was cut, although the question may stand there.
        marked: records with an answer that writes out a control token, which is read as text there.
        other_thoughts: records with an answer whose `<think>` is trained as text, as the template marks thoughts
            otherwise.
        earlier: records without rejected answers that hold earlier answers, which are not trained.
        rendered: whole messages that have been through a chat template already; its marks are read as text.
        same_role: conversations in which one side speaks twice in a row.
        suspect: texts that are probably mistakes.
        selection: which of the records that were read are in the split.
    """

    lengths: SplitLengths = field(default_factory=SplitLengths)
    tokens: TokenChecks = field(default_factory=TokenChecks)
    seams: SeamReport = field(default_factory=lambda: SeamReport(0, 0, None))
    positions: dict[str, int] = field(default_factory=dict)  # a Counter would not survive `asdict`
    unused: int = 0
    weighted: int = 0
    cut_messages: int = 0
    rendered: int = 0
    marked: int = 0
    other_thoughts: int = 0
    earlier: int = 0
    same_role: int = 0
    suspect: SuspectTexts = field(default_factory=SuspectTexts)
    selection: Selection = field(default_factory=Selection)

    @classmethod
    def of(cls, notes: dict[str, Any]) -> "SplitReport":
        """The report of which `asdict` gave these values."""
        parts: dict[str, Any] = {item.name: item.type for item in fields(cls) if is_dataclass(item.type)}
        return cls(**{name: parts[name](**value) if name in parts else value for name, value in notes.items()})

    @property
    def is_stretched(self) -> bool:
        """Whether any long prompt has synthesised positions."""
        return bool(self.positions.get("stretched"))

    def counted(self, pairs: Iterable[PreferencePair], form: PromptFormat, views: Views) -> Iterator[PreferencePair]:
        """The pairs, counted on their way."""
        reads_rejected = any(view.role == "rejected" for view in (*views.policy, *views.reference))
        for pair in self.suspect.counted(pairs):
            answers = [answer for turn in pair.all_turns for answer in (turn.chosen, *turn.rejected)]
            self.marked += any(map(form.traces.in_answer, answers))
            self.other_thoughts += any(map(form.has_other_thoughts, answers))
            self.unused += reads_rejected and len(pair.rejected) > views.num_rejected
            self.earlier += not pair.rejected and any(said.role == "assistant" for said in pair.other_messages)
            self.same_role += _speaks_twice(pair)
            yield pair

    def warnings(self, num_rejected: int) -> Iterator[str]:
        """What is trained otherwise than one might think, a line for each kind.

        Args:
            num_rejected: answers of a record that the objective reads.
        """
        if self.seams.differing:
            yield (
                f"{self.seams.differing} of {self.seams.checked} records that were compared have other tokens when "
                f"prompt and answers are tokenised as one text (sequences: {dict(self.seams.by_view)}), the first is "
                f"{self.seams.first!r}; serve the model with the prompt tokenised apart from the answer, or change "
                "spaces and line breaks in `policy.template.user` and around answers; where records have several "
                "turns, the chat template may write earlier answers in another way (without thoughts): use one turn"
            )
        if self.unused:
            yield (
                f"{self.unused} of {self.lengths.examples} records have rejected answers that are not "
                f"used: only the first {num_rejected} of each; LOGO takes more "
                "(`model.init_args.num_rejected`), or write a record for each"
            )
        if self.earlier:
            yield (
                f"{self.earlier} of {self.lengths.examples} records hold earlier answers of the assistant "
                "that are read, not trained: of a conversation the last answer alone is; write a record for each"
            )
        if self.same_role:
            yield (
                f"{self.same_role} of {self.lengths.examples} records have two messages of the same side "
                "in a row (user after user, or assistant after assistant), which many models never saw; they are "
                "written one after the other, as the chat template does: join them if they are one message"
            )
        yield from self.suspect.warnings(self.lengths.examples)
        yield from self._of_templates()

    def _of_templates(self) -> Iterator[str]:
        """What the chat template makes of the records."""
        if self.rendered:
            yield (
                f"{self.rendered} prompts already hold what a chat template writes around messages; it is read as "
                "text, inside the template if that is used; store them as messages, or set `policy.template.chat: "
                "false` and `policy.template.markup: control`"
            )
        if self.marked:
            yield (
                f"{self.marked} records have answers that write out a control token (a mark of the chat template at "
                "their beginning, one of `policy.added_special_tokens`), which is trained as text; store the answers "
                "without it, or set `policy.template.markup: control` to train the token"
            )
        if self.other_thoughts:
            yield (
                f"{self.other_thoughts} records have answers with <think>...</think> where the chat template has other "
                "marks for thoughts, or ends or opens them itself: they are trained as a part of the answer; write "
                "them in its marks (`policy.template.markup: control`), set `policy.template.options`, or take them out"
            )
        if self.cut_messages:
            yield (
                f"{self.cut_messages} contexts that were cut are whole messages, so a question in the "
                "middle of one is lost; store it apart (`question`, `long_context`: data_modules/formats/README.md), "
                "or set `data.init_args.on_overlength: skip`"
            )


def _speaks_twice(pair: PreferencePair) -> bool:
    """Whether one side has two messages in a row."""
    roles = [*(said.role for said in pair.history), "user", *(said.role for said in pair.followup)]
    return any(before == after for before, after in pairwise(roles))
