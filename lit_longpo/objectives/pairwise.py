"""The base of the pairwise objectives: one response's numbers, a reward and a loss, and the module around them.

A paper is one file: its equation, a pure loss, a `PairwiseAlgorithm` and a `PairwiseModule`. SoLoPO takes any of
these modules as its base, so nothing else has to know a new one.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor

from lit_longpo.batch import Context, Scores, View, Views
from lit_longpo.errors import InputError
from lit_longpo.objectives.base import PreferenceModule
from lit_longpo.objectives.rewards import Metrics, preference_metrics


@dataclass(frozen=True)
class Scored:
    """One response's numbers in one context.

    Args:
        log_probs: summed policy log-probabilities. Shape: (B,).
        num_tokens: scored tokens. Shape: (B,).
        reference: summed reference log-probabilities, if there is a reference. Shape: (B,).
        margin: by how much the pair's chosen reward should exceed the rejected one's. Shape: (B,), or () for all.
    """

    log_probs: Tensor
    num_tokens: Tensor
    reference: Tensor | None
    margin: Tensor | float = 0.0

    @classmethod
    def of(
        cls, view: View, policy: Scores, reference: Scores | None, reference_context: Context | None = None
    ) -> "Scored":
        """The numbers of one view; of several rejected responses the first. Shape of each: (B,).

        Args:
            view: context and role.
            policy: scores of the policy.
            reference: those of the reference; `None` without one.
            reference_context: the context that the reference has read, if it is another one.
        """

        def first(values: Tensor) -> Tensor:
            return values if view.role == "chosen" else values[:, 0]

        log_probs = first(policy.log_probs(view.context, view.role))
        num_tokens = first(policy.num_tokens(view.context, view.role))
        if reference is None:
            return cls(log_probs, num_tokens, None, policy.margins)
        of_reference = first(reference.log_probs(reference_context or view.context, view.role))
        return cls(log_probs, num_tokens, of_reference, policy.margins)

    @property
    def reference_log_probs(self) -> Tensor:
        """`reference`, where an algorithm cannot do without. Shape: (B,).

        Raises:
            InputError: there is none.
        """
        if self.reference is None:
            raise InputError(
                "this objective needs reference log-probabilities, the batch has none; check the objective's `views`"
            )
        return self.reference


class PairwiseAlgorithm(ABC):
    """A reward per response and a loss per pair."""

    needs_reference: ClassVar[bool] = False
    takes_margins: ClassVar[bool] = False  # whether `loss` subtracts `chosen.margin` from the rewards' difference
    # Weight of the alignment when SoLoPO builds on this algorithm: what its paper tuned, 1 where it says nothing.
    solopo_alpha: ClassVar[float] = 1.0

    @abstractmethod
    def reward(self, response: Scored) -> Tensor:
        """Reward r(x, y). Shape: (B,)."""

    @abstractmethod
    def loss(self, chosen: Scored, rejected: Scored) -> Tensor:
        """Per-example losses. Shape: (B,)."""


class PairwiseModule(PreferenceModule):
    """Scores chosen and rejected in one context and applies one pairwise algorithm.

    Args:
        algorithm: reward and loss.
        context: which context the pair is scored in; `None` means "long".
        **module: see `PreferenceModule`: policy, optimization, reference.
    """

    @abstractmethod  # a recipe names a paper
    def __init__(self, algorithm: PairwiseAlgorithm, context: Context | None = None, **module: Any) -> None:
        fields: set[str] = set(getattr(algorithm, "__dataclass_fields__", ()))
        if lost := sorted(vars(algorithm).keys() - fields):
            raise InputError(
                f"expected {type(algorithm).__name__} to be a dataclass, whose fields a checkpoint records, got a "
                f"class with other attributes ({', '.join(lost)}); write `@dataclass(frozen=True)` above it, fields "
                "for `__init__`"
            )
        super().__init__(**module)
        self.algorithm = algorithm
        self.context: Context = context or "long"
        self._settings = [name for name, value in {"context": context, **module}.items() if value is not None]

    def arguments(self) -> Iterator[tuple[str, Any]]:
        """The algorithm's arguments, as if they were the objective's own."""
        for name, value in super().arguments():
            if name != "algorithm":
                yield name.removeprefix("algorithm."), value

    @property
    def views(self) -> Views:
        """Chosen and rejected in one context, for the reference too if the algorithm needs it."""
        views = (View(self.context, "chosen"), View(self.context, "rejected"))
        reference = views if self.algorithm.needs_reference else ()
        return Views(policy=views, reference=reference, margins=self.algorithm.takes_margins)

    def loss(self, policy: Scores, reference: Scores | None) -> tuple[Tensor, Metrics]:
        """Per-example losses and reward metrics. Shape of each: (B,)."""
        chosen = Scored.of(View(self.context, "chosen"), policy, reference)
        rejected = Scored.of(View(self.context, "rejected"), policy, reference)
        return self.algorithm.loss(chosen, rejected), pair_metrics(self.algorithm, chosen, rejected)

    def bare_algorithm(self) -> PairwiseAlgorithm:
        """The algorithm, for an objective that brings contexts and policy of its own.

        Raises:
            InputError: this module was given settings, or has a loss of its own, that would have no effect there.
        """
        if type(self).loss is not PairwiseModule.loss:
            raise InputError(
                f"expected the loss of a base in its PairwiseAlgorithm, got {type(self).__name__}.loss, which would "
                f"have no effect; move it into the `loss` of a PairwiseAlgorithm that {type(self).__name__} passes on"
            )
        if self._settings:
            raise InputError(
                f"expected only {type(self).__name__}'s own arguments in the base, got {' and '.join(self._settings)}, "
                f"which would have no effect; remove `model.init_args.base.init_args.{self._settings[0]}`"
            )
        return self.algorithm


def pair_metrics(algorithm: PairwiseAlgorithm, chosen: Scored, rejected: Scored) -> Metrics:
    """The metrics that every pairwise objective logs. Shape of each: (B,)."""
    rewards = algorithm.reward(chosen), algorithm.reward(rejected)
    return preference_metrics(*rewards, chosen.log_probs, rejected.log_probs, -chosen.log_probs / chosen.num_tokens)
