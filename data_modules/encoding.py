"""Pairs -> token groups, for exactly the views that an objective asks."""

from collections.abc import Iterable
from dataclasses import dataclass

from data_modules.contexts import Span
from data_modules.records import PreferencePair
from data_modules.truncation import (
    LengthPolicy,
    OverlengthError,
    SplitLengths,
    cut_middle,
    drop_passages,
    spans_hit,
)
from lit_longpo.batch import Context, Group, Response, View, Views
from lit_longpo.policy import PromptFormat
from lit_longpo.policy.prompting import EncodedPrompt


@dataclass(frozen=True)
class EncodedPair:
    """One example's groups.

    Args:
        policy: what the policy scores.
        reference: what the reference scores; the same tuple if the views are the same.
    """

    policy: tuple[Group, ...]
    reference: tuple[Group, ...]

    @property
    def num_tokens(self) -> int:
        """Tokens in the longer of the two rows."""
        rows = (self.policy, self.reference)
        return max(sum(group.num_tokens for group in groups) for groups in rows)


class PairEncoder:
    """Tokenises pairs; contexts and responses that no view names are never touched.

    Args:
        prompt_format: tokenizer and template.
        views: what the objective asks.
        lengths: what to do with sequences that are too long.
        prefix_sharing: one group per context; False makes one group per response.
    """

    def __init__(
        self, prompt_format: PromptFormat, views: Views, lengths: LengthPolicy, *, prefix_sharing: bool = True
    ) -> None:
        self.prompt_format, self.views, self.lengths = prompt_format, views, lengths
        self.prefix_sharing = prefix_sharing

    def encode(self, pair: PreferencePair, counts: SplitLengths) -> EncodedPair | None:
        """The pair's groups; `None` if the length policy leaves it out (counted).

        Raises:
            OverlengthError: a sequence is too long and may not, or cannot, be cut.
            ValueError: the pair has fewer rejected answers than the objective needs.
        """
        counts.examples += 1
        answers = self._answers(pair)
        prompts: dict[Context, tuple[int, ...]] = {}
        cut = False
        views = (*self.views.policy, *self.views.reference)
        for context in dict.fromkeys(view.context for view in views):
            roles = {view.role for view in views if view.context == context}
            longest = max(len(ids) for (role, _), ids in answers.items() if role in roles)
            fitted = self._prompt(pair, context, longest, counts)
            if fitted is None:
                counts.skipped += 1
                return None
            prompts[context], was_cut = fitted
            cut |= was_cut
        counts.cut += cut
        policy = self._groups(pair, self.views.policy, prompts, answers, self.views.sequence)
        if set(self.views.reference) == set(self.views.policy) and not self.views.sequence:
            return EncodedPair(policy, policy)
        return EncodedPair(policy, self._groups(pair, self.views.reference, prompts, answers))

    def _answers(self, pair: PreferencePair) -> dict[tuple[str, int], tuple[int, ...]]:
        """Tokens of the responses in use, by role and index."""
        roles = {view.role for view in (*self.views.policy, *self.views.reference)}
        texts = [("chosen", 0, pair.chosen)] if "chosen" in roles else []
        if "rejected" in roles:
            wanted = self.views.num_rejected
            if len(pair.rejected) < wanted:
                raise ValueError(
                    f"expected {wanted} rejected answers in record {pair.id!r}, got {len(pair.rejected)}; "
                    "add some, or lower the objective's `model.init_args.num_rejected`"
                )
            texts += [("rejected", index, text) for index, text in enumerate(pair.rejected[:wanted])]
        return {(role, index): self.prompt_format.encode_response(text) for role, index, text in texts}

    def _prompt(
        self, pair: PreferencePair, context: Context, answer_length: int, counts: SplitLengths
    ) -> tuple[tuple[int, ...], bool] | None:
        """The prompt within its budget and whether its context was cut; `None` to leave the pair out."""
        text = pair.short_context if context == "short" else pair.long_context
        prompt = self.prompt_format.encode_prompt(text, pair.question)
        length = len(prompt.ids) + answer_length
        if self.lengths.max_length is None or length <= self.lengths.max_length:
            return prompt.ids, False
        if self.lengths.on_overlength == "skip":
            return None
        room = len(prompt.context) - (length - self.lengths.max_length)
        if self.lengths.on_overlength == "error" or room < 1:
            raise _too_long(pair, context, length, self.lengths.max_length, room)
        kept = self._cut(pair, context, prompt, room, counts)
        counts.tokens_lost += len(prompt.context) - len(kept)
        return prompt.head + kept + prompt.tail, True

    def _cut(
        self, pair: PreferencePair, context: Context, prompt: EncodedPrompt, room: int, counts: SplitLengths
    ) -> tuple[int, ...]:
        """The context's tokens, `room` at most."""
        text, spans = supporting_spans(pair, context)
        if self.lengths.truncation == "middle":
            counts.supporting_lost += spans_hit(text, spans, len(prompt.context), room, self._count_tokens)
            return cut_middle(prompt.context, room)
        if not spans:
            raise OverlengthError(
                f"`truncation: passages` keeps the supporting passages, but record {pair.id!r} does not say "
                f"which they are in its {context} context; add `supporting` spans, or set "
                "`data.init_args.truncation: middle`"
            )
        shorter = drop_passages(text, spans, room, self._count_tokens, pair.id)
        if shorter is None:
            raise OverlengthError(
                f"the supporting passages of record {pair.id!r} alone are longer than the {room} tokens left "
                f"for its {context} context; raise `data.init_args.max_length`, or set "
                "`data.init_args.truncation: middle`"
            )
        return self.prompt_format.encode(shorter)

    def _count_tokens(self, text: str) -> int:
        return len(self.prompt_format.encode(text))

    def _groups(
        self,
        pair: PreferencePair,
        views: Iterable[View],
        prompts: dict[Context, tuple[int, ...]],
        answers: dict[tuple[str, int], tuple[int, ...]],
        sequences: tuple[Context, ...] = (),
    ) -> tuple[Group, ...]:
        by_context: dict[Context, list[Response]] = {}
        for view in views:
            made = [
                Response(view.role, ids, (True,) * len(ids), index)
                for (role, index), ids in answers.items()
                if role == view.role
            ]
            by_context.setdefault(view.context, []).extend(made)
        groups = list[Group]()
        for context, responses in by_context.items():
            responses.sort(key=lambda response: (response.role != "chosen", response.index))
            for part in [responses] if self.prefix_sharing else [[response] for response in responses]:
                sequence = part[0].role == "chosen" and context in sequences
                groups.append(Group(pair.id, context, prompts[context], tuple(part), score_sequence=sequence))
        return tuple(groups)


def supporting_spans(pair: PreferencePair, context: Context) -> tuple[str, tuple[Span, ...]]:
    """A context's text and the character spans of its supporting passages, ascending.

    The record holds those of the long context; the short one contains the same passages.
    """
    if context == "long":
        return pair.long_context, pair.supporting
    passages = [pair.long_context[start:end] for start, end in pair.supporting]
    starts = [(pair.short_context.find(passage), len(passage)) for passage in passages]
    return pair.short_context, tuple(sorted((start, start + n) for start, n in starts if start >= 0))


def _too_long(pair: PreferencePair, context: str, length: int, limit: int, room: int) -> OverlengthError:
    advice = "set `data.init_args.on_overlength` to truncate or skip, or raise `data.init_args.max_length`"
    if room < 1:
        advice = (
            "question and answer alone fill it: raise `data.init_args.max_length`, or set "
            "`data.init_args.on_overlength: skip`"
        )
    return OverlengthError(
        f"expected at most {limit} tokens in prompt and longest answer of record {pair.id!r} "
        f"({context} context), got {length}; {advice}"
    )
