"""Fits prompts to the length policy: keeps them whole, cuts their context, leaves them out, or refuses them."""

from dataclasses import replace

from data_modules.records import PreferencePair
from data_modules.rows.truncation import (
    LengthPolicy,
    OverlengthError,
    SplitLengths,
    cut_middle,
    drop_passages,
    spans_hit,
    supporting_spans,
    too_long,
)
from data_modules.rows.unfitted import UnfittedGroup, naming, surroundings
from lit_longpo.policy import PromptFormat
from lit_longpo.policy.prompts.encoded_prompt import EncodedPrompt


class PromptFitter:
    """Tokenises the prompts of groups, and cuts the contexts of those that are too long."""

    def __init__(self, prompt_format: PromptFormat, lengths: LengthPolicy) -> None:
        self._format, self._lengths = prompt_format, lengths
        self.num_rendered = 0  # prompts with messages that hold a chat template's marks, which are text there
        self.num_cut_messages = 0  # cut contexts that are whole messages, with the question somewhere in them

    def fit(
        self, pair: PreferencePair, group: UnfittedGroup, counts: SplitLengths
    ) -> tuple[EncodedPrompt, bool] | None:
        """The prompt within its budget and whether its context was cut, which is counted; `None` to leave the pair out.

        Raises:
            OverlengthError: the sequence is too long and may not, or cannot, be cut.
        """
        self.num_rendered += any(map(self._format.traces.in_message, _messages(pair, group)))
        prompt = self._prompt(pair, group, group.text)
        length, limit = len(prompt.ids) + group.longest, self._lengths.max_length
        if limit is None or length <= limit:
            return prompt, False
        if self._lengths.on_overlength == "skip":
            return None
        room = len(prompt.context) - (length - limit)  # all that is too much comes out of the context
        if self._lengths.on_overlength == "error" or room < 1:
            raise too_long(pair, group.context, length, limit, room)
        if self._lengths.truncation == "middle":
            shorter = replace(prompt, context=self._cut_middle(pair, group, prompt, room, counts))
        else:
            shorter = self._without_passages(pair, group, room, limit - group.longest)
        counts.tokens_lost += len(prompt.context) - len(shorter.context)
        return shorter, True

    def _prompt(self, pair: PreferencePair, group: UnfittedGroup, context: str) -> EncodedPrompt:
        """The prompt; a message that is a whole (no question apart) is not put into the template."""
        with naming(pair):
            return self._format.encode_prompt(context, group.question or None, surroundings(pair))

    def _cut_middle(
        self, pair: PreferencePair, group: UnfittedGroup, prompt: EncodedPrompt, room: int, counts: SplitLengths
    ) -> tuple[int, ...]:
        """The context's first and last tokens, `room` in all."""
        self.num_cut_messages += not group.question
        spans = supporting_spans(pair, group.text)
        counts.supporting_lost += spans_hit(group.text, spans, len(prompt.context), room, self._count_tokens)
        return cut_middle(prompt.context, room)

    def _without_passages(self, pair: PreferencePair, group: UnfittedGroup, room: int, limit: int) -> EncodedPrompt:
        """The prompt with a context of `room` tokens at most; passages counted apart can take one more each."""
        spans = supporting_spans(pair, group.text)
        if not spans:
            raise OverlengthError(
                f"`truncation: passages` keeps the supporting passages, but record {pair.named} does not say "
                f"which they are in its {group.context} context; add `supporting` spans, or set "
                "`data.init_args.truncation: middle`"
            )
        budget = room
        while (shorter := drop_passages(group.text, spans, budget, self._count_tokens, pair.id)) is not None:
            prompt = self._prompt(pair, group, shorter)
            if len(prompt.ids) <= limit:
                return prompt
            budget -= len(prompt.ids) - limit
        raise OverlengthError(
            f"the supporting passages of record {pair.named} alone are longer than the {room} tokens left "
            f"for its {group.context} context; raise `data.init_args.max_length`, or set "
            "`data.init_args.truncation: middle`"
        )

    def _count_tokens(self, text: str) -> int:
        return len(self._format.encode(text))


def _messages(pair: PreferencePair, group: UnfittedGroup) -> list[str]:
    """What the prompt's messages say, but for a context with the question apart, which may be a page about marks."""
    others = (message.content for message in pair.other_messages)
    return [group.question or group.text, pair.system or "", *others]
