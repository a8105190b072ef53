"""Counts examples whose tokens show that they teach nothing: equal answers, unknown words, contradicting pairs."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from data_modules.rows.encoding import EncodedPair
from data_modules.rows.repeated_pairs import RepeatedPairs
from lit_longpo.batch import Group
from lit_longpo.errors import InputError

MAX_UNKNOWN = 0.25  # share of unknown tokens above which a tokenizer is another language's


@dataclass
class TokenChecks:
    """Counts of what the tokens of a split reveal about its texts.

    Args:
        examples: pairs encoded.
        equal_answers: pairs whose rejected answers all have the chosen one's tokens: no preference, no gradient.
        tokens: of all that the policy reads.
        unknown: how many of them stand for text that the tokenizer does not know.
        repeated: examples with all tokens of an earlier one.
        opposed: pairs that prefer, in the same context, what another pair rejects for it.
    """

    examples: int = 0
    equal_answers: int = 0
    tokens: int = 0
    unknown: int = 0
    repeated: int = 0
    opposed: int = 0

    def counted(self, examples: Iterable[EncodedPair], unknown_id: int | None) -> Iterator[EncodedPair]:
        """The examples, counted on their way; with the last one, those that are there twice."""
        pairs = RepeatedPairs()
        for example in examples:
            pairs.add(example)
            self.examples += 1
            self.equal_answers += _equal_answers(example.policy)
            for group in example.policy:
                for ids in (group.prompt_ids, *(response.token_ids for response in group.responses)):
                    self.tokens += len(ids)
                    if unknown_id is not None:
                        self.unknown += ids.count(unknown_id)
            yield example
        self.repeated, self.opposed = pairs.repeated, pairs.opposed

    def check(self, split: str) -> str:
        """A warning, or nothing.

        Raises:
            InputError: no pair of a training split has a preference, or the tokenizer does not know the data.
        """
        share = self.unknown / max(1, self.tokens)
        unknown = f"{self.unknown:,} of {self.tokens:,} tokens ({share:.0%}) are unknown to the tokenizer"
        equal = f"{self.equal_answers:,} of {self.examples:,} pairs have the same tokens in chosen and rejected answers"
        if share > MAX_UNKNOWN:
            raise InputError(
                f"{split}: expected a tokenizer that knows the data, got {unknown}; above {MAX_UNKNOWN:.0%} nothing "
                "can be learned: set `policy.source` to a model for these texts"
            )
        if split.split()[0] == "train" and self.examples and self.equal_answers == self.examples:
            raise InputError(f"{split}: expected answers that differ, got {equal}: no gradient; correct the data")
        counts = {f"{equal}: they have no gradient": self.equal_answers, unknown: self.unknown, **self._said_again()}
        lines = [text for text, number in counts.items() if number]
        return f"{split}: {'; '.join(lines)}" if lines else ""

    def _said_again(self) -> dict[str, int]:
        of_all = f"of {self.examples:,}"
        repeated = f"{self.repeated:,} {of_all} examples have all tokens of an earlier one, and count again"
        opposed = (
            f"{self.opposed:,} {of_all} pairs prefer, in the same context, the answer that another pair rejects to the "
            "one that it prefers: they undo each other, keep one of the two"
        )
        return {repeated: self.repeated, opposed: self.opposed}


def _equal_answers(groups: Sequence[Group]) -> bool:
    """Whether there are rejected answers, and all have the tokens of the chosen one in their context."""
    answers = [(group.context, group.turn, response) for group in groups for response in group.responses]
    chosen = {(context, turn, answer.token_ids) for context, turn, answer in answers if answer.role == "chosen"}
    rejected = [(context, turn, answer.token_ids) for context, turn, answer in answers if answer.role == "rejected"]
    return bool(rejected) and all(answer in chosen for answer in rejected)
