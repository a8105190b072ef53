"""Pairs -> token groups, for exactly the views that an objective asks."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace

from data_modules.records import PreferencePair, Turn
from data_modules.rows.fitting import PromptFitter
from data_modules.rows.requirements import check_requirements
from data_modules.rows.truncation import LengthPolicy, SplitLengths
from data_modules.rows.unfitted import UnfittedGroup, encode_answers, naming
from data_modules.splitting import compared_keys
from lit_longpo.batch import Context, Group, Response, Role, View, Views
from lit_longpo.policy import PromptFormat
from lit_longpo.policy.prompts.encoded_prompt import EncodedPrompt

# (prompt, tokens of the longest response, record id) -> position ids of the prompt's tokens, or `None`.
PromptPositions = Callable[[EncodedPrompt, int, str], tuple[int, ...] | None]


@dataclass(frozen=True)
class EncodedPair:
    """One example's groups.

    Args:
        reference: what the reference scores; the same tuple if the views are the same.
        weight: what the example's loss is multiplied by.
        margin: by how much its chosen reward should exceed the rejected one's.
        documents: keys of what it is about.
        source: which of several it comes from.
        every_view: tokens of all the record's views in a row; 0 where rows are cut by what is scored.
    """

    policy: tuple[Group, ...]
    reference: tuple[Group, ...]
    weight: float = 1.0
    margin: float = 0.0
    documents: tuple[int, ...] = ()
    source: str = ""
    every_view: int = 0

    @property
    def same_row(self) -> bool:
        """Whether policy and reference score the same groups."""
        return self.reference is self.policy

    @property
    def num_tokens(self) -> int:
        """Room that it takes in a row: of the longer of the two rows, or of all its views."""
        rows = (self.policy, self.reference)
        return max(self.every_view, *(sum(group.num_tokens for group in groups) for groups in rows))


class PairEncoder:
    """Tokenises pairs; contexts and responses that no view names are never touched.

    Args:
        prefix_sharing: one group per context; False makes one group per response.
        positions: position ids of long prompts; `None` means 0, 1, 2 ...
        long_from_short: put the short context's tokens into long prompts, at `positions`.
        every_view: lengths are those of all contexts and answers that the record holds, read or not, and so is which
            records are left out or cut: the same for every objective.
    """

    def __init__(
        self,
        prompt_format: PromptFormat,
        views: Views,
        lengths: LengthPolicy,
        *,
        prefix_sharing: bool = True,
        positions: PromptPositions | None = None,
        long_from_short: bool = False,
        every_view: bool = False,
    ) -> None:
        self.prompt_format, self.views = prompt_format, views
        self.fitter = PromptFitter(prompt_format, lengths)
        self.prefix_sharing, self.positions = prefix_sharing, positions
        self.long_from_short, self.every_view = long_from_short, every_view

    def encode(self, pair: PreferencePair, counts: SplitLengths) -> EncodedPair | None:
        """The pair's groups and the keys of its documents; `None` if the length policy leaves it out (counted).

        Raises:
            OverlengthError: a sequence is too long and may not, or cannot, be cut.
            InputError: the pair has fewer rejected answers than the objective needs, or a margin that its loss has
                no place for.
        """
        encoded = self.encode_texts(pair, counts)
        return None if encoded is None else replace(encoded, documents=tuple(compared_keys(pair)))

    def encode_texts(self, pair: PreferencePair, counts: SplitLengths) -> EncodedPair | None:
        """As `encode`, without keys of documents, which take as long as half of the tokens."""
        counts.examples += 1
        check_requirements(pair, self.views, long_from_short=self.long_from_short)
        prompts, cut = list[tuple[UnfittedGroup, EncodedPrompt]](), False
        for unfitted in self._unfitted_groups(pair):
            prompt = self.fitter.fit(pair, unfitted, counts)
            if prompt is None:
                counts.skipped += 1
                return None
            cut |= prompt[1]
            prompts.append((unfitted, prompt[0]))
        counts.cut += cut
        policy = self._groups(pair, prompts, self.views.policy, self.views.sequence)
        counts.reach = max(counts.reach, *(group.reach for group in policy))
        if set(self.views.reference) == set(self.views.policy) and not self.views.sequence:
            reference = policy
        else:
            reference = self._groups(pair, prompts, self.views.reference)
        margin = pair.margin if self.views.margins else 0.0
        sizes = (unfitted.num_tokens(prompt, shared=self.prefix_sharing) for unfitted, prompt in prompts)
        room = sum(sizes) if self.every_view else 0
        return EncodedPair(policy, reference, pair.weight, margin, every_view=room)

    def _views_of(self, pair: PreferencePair) -> tuple[View, ...]:
        """What is tokenised: the objective's views, and with `every_view` whatever else the record holds."""
        asked = (*self.views.policy, *self.views.reference)
        if not self.every_view:
            return asked
        has_short = all(turn.short_context for turn in pair.all_turns)
        has_long = has_short if self.long_from_short else bool(pair.long_context)
        contexts: dict[Context, bool] = {"short": has_short, "long": has_long}
        roles: tuple[Role, ...] = ("chosen", "rejected") if pair.rejected else ("chosen",)
        return (*asked, *(View(context, role) for context, there in contexts.items() if there for role in roles))

    def _unfitted_groups(self, pair: PreferencePair) -> Iterator[UnfittedGroup]:
        """In the long context all turns follow one prompt; in short contexts each has its own."""
        views = self._views_of(pair)
        for context in dict.fromkeys(view.context for view in views):
            roles = {view.role for view in views if view.context == context}
            if context == "long":
                text = pair.short_context if self.long_from_short else pair.long_context
                yield self._unfitted(pair, context, 0, text, pair.all_turns, roles)
                continue
            for number, turn in enumerate(pair.all_turns):
                yield self._unfitted(pair, context, number, turn.short_context, (turn,), roles)

    def _unfitted(
        self,
        pair: PreferencePair,
        context: Context,
        number: int,
        text: str,
        turns: tuple[Turn, ...],
        roles: set[Role],
    ) -> UnfittedGroup:
        sides: list[tuple[Role, int]] = [("chosen", 0)] if "chosen" in roles else []
        if "rejected" in roles:
            count = len(pair.rejected) if self.every_view else self.views.num_rejected
            sides += [("rejected", index) for index in range(count)]
        with naming(pair):
            responses, formats = zip(*(self._response(turns, role, index) for role, index in sides), strict=True)
        return UnfittedGroup(context, number, text, turns[0].question, responses, formats[0])

    def _response(self, turns: tuple[Turn, ...], role: Role, index: int) -> tuple[Response, tuple[bool, ...]]:
        """Answers of one side, later questions between them; and which tokens are the template's own."""
        conversation = tuple((turn.question, turn.answer(role, index)) for turn in turns)
        ids, mask, formats = encode_answers(self.prompt_format, conversation)
        return Response(role, ids, mask, index), formats

    def _groups(
        self,
        pair: PreferencePair,
        prompts: list[tuple[UnfittedGroup, EncodedPrompt]],
        views: Iterable[View],
        sequences: tuple[Context, ...] = (),
    ) -> tuple[Group, ...]:
        sides = {(view.context, view.role) for view in views}
        groups = list[Group]()
        for unfitted, prompt in prompts:
            scored_here = (r for r in unfitted.responses if (unfitted.context, r.role) in sides)
            responses = [r for r in scored_here if r.role == "chosen" or r.index < self.views.num_rejected]
            if not responses:
                continue
            whole = self._group(pair, unfitted, prompt)
            # Without sharing every response gets a group, and so a copy of the prompt, of its own.
            for part in [responses] if self.prefix_sharing else [[response] for response in responses]:
                scored = part[0].role == "chosen" and unfitted.context in sequences
                mask = whole.sequence_mask if scored else None
                groups.append(replace(whole, responses=tuple(part), score_sequence=scored, sequence_mask=mask))
        return tuple(groups)

    def _group(self, pair: PreferencePair, unfitted: UnfittedGroup, prompt: EncodedPrompt) -> Group:
        """The whole group with all its responses."""
        positions = None
        if self.positions is not None and unfitted.context == "long":
            positions = self.positions(prompt, unfitted.longest, pair.id)
        counted = None
        if not self.views.sequence_format:
            counted = tuple(not of_format for of_format in (*prompt.format_mask, *unfitted.chosen_format))
        return Group(
            pair.id, unfitted.context, prompt.ids, unfitted.responses, positions, unfitted.turn, sequence_mask=counted
        )
