"""The pass that scores a cached reference before the first step: its rows, and how long it takes."""

from dataclasses import dataclass

from transformers import PretrainedConfig

from lit_longpo.planning.flops import row_flops
from lit_longpo.planning.inputs.configuration import Configuration
from lit_longpo.planning.inputs.row import RowPlan
from lit_longpo.planning.memory import CONFIGURED, ActivationMode
from lit_longpo.planning.sizes import ModelSizes


@dataclass(frozen=True)
class ReferencePass:
    """What every example costs before the first step.

    Args:
        row_tokens: of a full row.
        examples_per_row: in it.
        flops_per_row: of its forward.
        num_examples: of the data, as far as that is known.
    """

    row_tokens: int
    examples_per_row: int
    flops_per_row: float
    num_examples: int | None

    def seconds(self, flops_per_second: float) -> float | None:
        """How long all examples take; `None` if their number is not known."""
        if self.num_examples is None:
            return None
        return self.num_examples / self.examples_per_row * self.flops_per_row / flops_per_second


def reference_row(run: Configuration, row: RowPlan, layers: int, mode: ActivationMode) -> RowPlan:
    """The examples that the reference scores at once: online those of the policy's row, else what its budget takes."""
    if run.reference.mode == "online" or not run.objective.views.reference:
        return row
    budget = run.reference.row_tokens(row.num_tokens, CONFIGURED[mode], layers)
    return row.refilled(budget, None if run.longest is None else run.longest.num_examples)


def reference_pass(run: Configuration, row: RowPlan, config: PretrainedConfig, sizes: ModelSizes) -> ReferencePass:
    """The pass over rows like this one, by the reference's configuration and sizes."""
    packed = row.reference_row()
    if packed is None:
        raise AssertionError("nothing is scored")
    work = row_flops(config, sizes, packed, checkpointing=False).forward
    known = None if run.longest is None else run.longest.num_examples
    return ReferencePass(packed.num_tokens, row.num_examples, work, known)
