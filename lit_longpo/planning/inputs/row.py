"""The fullest row that a configuration allows, as lengths: what a step's memory and FLOPs are worked out for."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from lit_longpo.batch import Context, Group, PackedBatch, Response, View, Views
from lit_longpo.engine import pack
from lit_longpo.errors import InputError


@dataclass(frozen=True)
class LongestExample:
    """Tokens of the largest example of the training data, as a data module's `longest_example` gives them.

    Args:
        source: where the numbers come from, in words.
        num_examples: of the data, those that validation may take included.
        prompt: of the long context, or of the only one.
        short_prompt: of the short context; 0 without one beside a long one.
        response: of the longest answer.
    """

    source: str
    num_examples: int
    prompt: int
    short_prompt: int
    response: int


@dataclass(frozen=True)
class RowPlan:
    """A packed row of equal examples.

    Args:
        views: what the objective wants scored.
        num_examples: examples in the row.
        long_tokens: prompt of the long context (of the short one if the objective has no long view).
        short_tokens: prompt of the short context, where there is a long one as well.
        response_tokens: every response.
        prefix_sharing: False gives each response a prompt of its own.
    """

    views: Views
    num_examples: int
    long_tokens: int
    short_tokens: int
    response_tokens: int
    prefix_sharing: bool = True

    @property
    def contexts(self) -> tuple[Context, ...]:
        """Contexts that the policy reads."""
        return tuple(dict.fromkeys(view.context for view in self.views.policy))

    def prompt_tokens(self, context: Context) -> int:
        """Tokens of one prompt; the only context of an objective is stretched like a long one."""
        stretched = context == "long" or (self.contexts == (context,))
        return self.long_tokens if stretched else self.short_tokens

    def policy_row(self) -> PackedBatch:
        """The row that is trained on."""
        return pack(list(self._groups(self.views.policy, sequence=True)))

    def reference_row(self) -> PackedBatch | None:
        """The row that the reference scores, if there is one."""
        groups = list(self._groups(self.views.reference, sequence=False))
        return pack(groups) if groups else None

    def refilled(self, budget: int, most: int | None) -> "RowPlan":
        """The row with as many examples, of `most`, as the reference's pass puts into one of `budget` tokens."""
        count = budget // self._tokens_of(self.views.reference)
        return replace(self, num_examples=max(1, min(count, most or count)))

    @property
    def num_tokens(self) -> int:
        """Tokens of the row that is trained on."""
        return self.num_examples * self._tokens_of(self.views.policy)

    def _tokens_of(self, views: tuple[View, ...]) -> int:
        """Tokens of one example."""
        found = 0
        for context in dict.fromkeys(view.context for view in views):
            roles = [view.role for view in views if view.context == context]
            responses = sum(self.views.num_rejected if role == "rejected" else 1 for role in roles)
            prompts = 1 if self.prefix_sharing else responses
            found += prompts * self.prompt_tokens(context) + responses * self.response_tokens
        return found

    def divided(self, ranks: int) -> "RowPlan":
        """One rank's share under sequence parallelism: as many bytes as a row that is so much shorter.

        Outside attention a rank holds T / S tokens with all their channels, inside all T tokens of H / S heads.
        """
        lengths = (self.long_tokens, self.short_tokens, self.response_tokens)
        long, short, response = (max(1, -(-length // ranks)) for length in lengths)
        return replace(self, long_tokens=long, short_tokens=short, response_tokens=response)

    def _groups(self, views: tuple[View, ...], *, sequence: bool) -> Iterator[Group]:
        for example in range(self.num_examples):
            for context in dict.fromkeys(view.context for view in views):
                responses = tuple(self._responses(views, context))
                scored = sequence and context in self.views.sequence
                parts = [responses] if self.prefix_sharing else [(response,) for response in responses]
                prompt = (0,) * self.prompt_tokens(context)
                for part in parts:
                    chosen_first = part[0].role == "chosen"
                    yield Group(str(example), context, prompt, part, score_sequence=scored and chosen_first)

    def _responses(self, views: tuple[View, ...], context: Context) -> Iterator[Response]:
        tokens, mask = (0,) * self.response_tokens, (True,) * self.response_tokens
        for view in views:
            if view.context == context:
                for index in range(self.views.num_rejected if view.role == "rejected" else 1):
                    yield Response(view.role, tokens, mask, index)


def fill_row(
    views: Views,
    *,
    budget: int,
    max_length: int | None,
    max_examples: int | None,
    response_tokens: int,
    short_tokens: int,
    prefix_sharing: bool,
    long_tokens: int | None = None,
) -> RowPlan:
    """The row that fills its budget: as many of the longest examples as fit, their long prompts stretched to the rest.

    They are not stretched where there are no more examples to fill it with.

    Args:
        views: what the objective wants scored.
        budget: `data.init_args.max_tokens`.
        max_length: tokens of the longest sequence; `None` means one example fills the row.
        max_examples: most examples of a row.
        response_tokens: tokens of every response.
        short_tokens: tokens of short prompts.
        prefix_sharing: whether responses share their prompt.
        long_tokens: of the longest long prompt, where it is known; `None` goes by `max_length`.

    Raises:
        InputError: not even one example with an empty prompt fits.
    """
    empty = RowPlan(
        views=views,
        num_examples=1,
        long_tokens=0,
        short_tokens=short_tokens,
        response_tokens=response_tokens,
        prefix_sharing=prefix_sharing,
    )
    copies = replace(empty, long_tokens=1).num_tokens - empty.num_tokens
    fixed = empty.num_tokens
    if long_tokens is None and max_length is not None:
        long_tokens = max(1, max_length - response_tokens)
    longest = budget if long_tokens is None else fixed + copies * long_tokens
    count = max(1, min(budget // longest, max_examples or budget))
    prompt = (budget // count - fixed) // copies
    if long_tokens is not None and count == max_examples:
        prompt = min(prompt, long_tokens)
    if prompt < 1:
        raise InputError(
            f"expected a row of {budget:,} tokens to hold an example, got {fixed:,} tokens of responses and short "
            "prompt alone; lower --response_tokens or --short_tokens, or raise data.init_args.max_tokens"
        )
    return replace(empty, num_examples=count, long_tokens=prompt)
