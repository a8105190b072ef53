"""A model behind a server as what an evaluation asks."""

from dataclasses import dataclass, field
from functools import cached_property

from evaluation.respondent import Respondent
from evaluation.running.settings import RunSettings
from evaluation.served.model import ServedModel
from evaluation.served.settings import ServerSettings, check_way
from lit_longpo.errors import InputError
from lit_longpo.policy import PromptFormat


@dataclass(frozen=True)
class ServedRespondent(Respondent):
    """A model behind an OpenAI-compatible server; of the policy only files without weights are read.

    Args:
        server: where, and how it is asked.

    Raises:
        InputError: several processes are to ask.
    """

    server: ServerSettings = field(default_factory=ServerSettings)

    def __post_init__(self) -> None:
        if self.devices != 1 or self.shard:
            raise InputError(
                f"expected `--devices 1 --shard false` with a server, which answers many questions at a time itself, "
                f"got {self.devices} and {self.shard}; type --devices 1 --shard false and raise --server.concurrency"
            )

    def check(self, settings: RunSettings) -> None:
        """The server is reached before records are read."""
        check_way(self.server, settings)
        _ = self._reached

    def known(self) -> tuple[PromptFormat, int | None]:
        """The window is the server's."""
        return self._reached.endpoint.prompt_format, self._reached.window

    def check_likelihoods(self) -> None:
        """Servers are asked for answers only.

        Raises:
            InputError: always.
        """
        raise InputError(
            "expected no --server with --short_context, whose answers are likelihoods, got one; leave --server out"
        )

    def name(self, fingerprint: str) -> str:
        """The model's name there."""
        return self._reached.name

    def load(self) -> tuple[ServedModel, PromptFormat]:
        """What stands for the model, and the tokenizer that goes with it."""
        return self._reached, self._reached.endpoint.prompt_format

    @cached_property
    def _reached(self) -> ServedModel:
        return ServedModel.reach(self.server, self.policy, self.policy.prompt_format())
