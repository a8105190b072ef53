"""The protocol of everything that answers prompts."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import ClassVar

from data_modules.builders.generators.requests import Completion, Request
from data_modules.records import PreferencePair
from lit_longpo.policy import PolicyConfig


class TextGenerator(ABC):
    """Answers requests; a subclass is a dataclass whose fields are its settings.

    Attributes:
        gives_thoughts: an answer goes on with the thoughts that the policy's prompts open, if they do.
    """

    gives_thoughts: ClassVar[bool] = False

    @abstractmethod
    def open(self, policy: PolicyConfig) -> str:
        """Get ready to answer.

        Args:
            policy: the model that a local generator runs, and whose template it follows.

        Returns:
            What the answers depend on beside the requests, as a short text: the model.

        Raises:
            MissingPackageError: a missing extra, with the command that installs it.
        """

    def batches(self, requests: Sequence[Request]) -> list[list[Request]]:
        """Requests that have to be answered together to be answered the same again; here each alone."""
        return [[request] for request in requests]

    @abstractmethod
    def answer(self, batches: Sequence[Sequence[Request]]) -> Iterator[Completion]:
        """Answer all requests, in any order; a request that has no answer gets a completion with an error."""

    def margin(self, pair: PreferencePair) -> float | None:
        """By how much the model that answers finds a pair's chosen answer likelier, in nats per token.

        On the short context; of several turns or rejected answers the least. `None` where nobody can tell: a server
        gives no probabilities of answers that it did not sample.
        """
        return None

    def reads(self, policy: PolicyConfig) -> str:
        """What prompts are made of beside requests and settings: tokenizer and chat template, where they are ours."""
        return ""

    def close(self) -> None:  # noqa: B027  (nothing to release is the usual case)
        """Release what `open` took."""
