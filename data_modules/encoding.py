"""Pairs -> token groups, for exactly the views that an objective asks."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

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
        return max(sum(group.num_tokens for group in groups) for groups in (self.policy, self.reference or self.policy))


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
        for context in dict.fromkeys(view.context for view in (*self.views.policy, *self.views.reference)):
            budget = None if self.lengths.max_length is None else self.lengths.max_length - max(map(len, answers.values()))
            fitted = self._prompt(pair, context, budget, counts)
            if fitted is None:
                counts.skipped += 1
                return None
            prompts[context], was_cut = fitted
            cut |= was_cut
        counts.cut += cut
        policy = self._groups(pair, self.views.policy, prompts, answers, self.views.sequence)
        same = self.views.reference == self.views.policy and not self.views.sequence
        return EncodedPair(policy, policy if same else self._groups(pair, self.views.reference, prompts, answers))

    def _answers(self, pair: PreferencePair) -> dict[tuple[str, int], tuple[int, ...]]:
        """Tokens of the responses in use, by role and index."""
        roles = {view.role for view in (*self.views.policy, *self.views.reference)}
        texts = [("chosen", 0, pair.chosen)] if "chosen" in roles else []
        if "rejected" in roles:
            wanted = self.views.num_rejected
            if len(pair.rejected) < wanted:
                raise ValueError(
                    f"expected {wanted} rejected answers in record {pair.id!r}, got {len(pair.rejected)}; add some, "
                    "or lower the objective's `num_rejected`"
                )
            texts += [("rejected", index, text) for index, text in enumerate(pair.rejected[:wanted])]
        return {(role, index): self.prompt_format.encode_response(text) for role, index, text in texts}

    def _prompt(
        self, pair: PreferencePair, context: Context, budget: int | None, counts: SplitLengths
    ) -> tuple[tuple[int, ...], bool] | None:
        """The prompt within its budget and whether its context was cut; `None` to leave the pair out."""
        text = pair.short_context if context == "short" else pair.long_context
        prompt = self.prompt_format.encode_prompt(text, pair.question)
        if budget is None or len(prompt.ids) <= budget:
            return prompt.ids, False
        room = budget - len(prompt.head) - len(prompt.tail)
        if self.lengths.on_overlength == "skip":
            return None
        if self.lengths.on_overlength == "error" or room < 1:
            raise _too_long(pair, context, len(prompt.ids), budget, room)
        kept = self._cut(pair, context, text, prompt, room, counts)
        counts.tokens_lost += len(prompt.context) - len(kept)
        return prompt.head + kept + prompt.tail, True

    def _cut(
        self, pair: PreferencePair, context: Context, text: str, prompt: EncodedPrompt, room: int, counts: SplitLengths
    ) -> tuple[int, ...]:
        spans = pair.supporting if context == "long" else ()
        count = self._count_tokens
        if self.lengths.truncation == "passages" and context == "long":
            shorter = drop_passages(text, spans, room, count, pair.id)
            if shorter is None:
                raise OverlengthError(
                    f"the supporting passages of record {pair.id!r} alone are longer than the {room} tokens left for "
                    "the context; raise `data.init_args.max_length`, or set `truncation: middle`"
                )
            return self.prompt_format.encode(shorter)
        counts.supporting_lost += spans_hit(text, spans, len(prompt.context), room, count)
        return cut_middle(prompt.context, room)

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
        split: Callable[[list[Response]], list[list[Response]]]
        split = (lambda responses: [responses]) if self.prefix_sharing else (lambda responses: [[r] for r in responses])
        return tuple(
            Group(pair.id, context, prompts[context], tuple(part), score_sequence=sequence)
            for context, responses in by_context.items()
            for part in split(responses)
            for sequence in (part[0].role == "chosen" and context in sequences,)
        )


def _too_long(pair: PreferencePair, context: str, length: int, budget: int, room: int) -> OverlengthError:
    advice = "set `data.init_args.on_overlength` to truncate or skip, or raise `data.init_args.max_length`"
    if room < 1:
        advice = "question and answer alone fill it: raise `data.init_args.max_length`, or set `on_overlength: skip`"
    return OverlengthError(
        f"expected at most {budget} tokens in the {context} prompt of record {pair.id!r}, got {length}; {advice}"
    )
