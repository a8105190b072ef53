"""Means over examples, whatever the rows and the ranks that hold them."""

from collections.abc import Callable

import torch
from torch import Tensor

from lit_longpo.batch import tensor_on

Reduce = Callable[..., Tensor]  # `Strategy.reduce`


class ExampleMeans:
    """Sums over examples, and their number: every example counts the same, in rows of any size.

    Ranks that share a row all hold its examples, in the sum as in the count, so nothing counts twice.
    """

    def __init__(self) -> None:
        self.rows = 0
        self._names: tuple[str, ...] = ()
        self._sums = torch.zeros(())  # of every name, then the number of examples

    def add(self, values: dict[str, Tensor], *, counted: bool = True) -> None:
        """Add a row.

        Args:
            values: per-example values. Shape of each: (B,).
            counted: False where another rank has the row too; what this rank has computed is left out.
        """
        columns = [value.detach().double() for value in values.values()]
        examples = tensor_on(columns[0].device, [float(len(columns[0]))], torch.float64)
        row = torch.cat([torch.stack(columns).sum(dim=1), examples])
        row = row if counted else torch.zeros_like(row)
        self._sums = row if self.rows == 0 else self._sums + row
        self._names, self.rows = tuple(values), self.rows + 1

    def over_all_ranks(self, reduce: Reduce) -> tuple[dict[str, Tensor], Tensor]:
        """Means over the examples of all rows of all ranks, and how many of these a rank has on average.

        One reduction; a collective call.

        Args:
            reduce: the strategy's.
        """
        totals = reduce(self._sums.clone(), reduce_op="mean")
        means = (totals[:-1] / totals[-1]).float().unbind()
        return dict(zip(self._names, means, strict=True)), totals[-1].float()


class Window(ExampleMeans):
    """The rows of one optimizer step; its gradient is the mean over their examples, over all ranks.

    How many examples the later rows hold is not known when the first one's gradient is taken. So every row's loss is
    its sum over the examples of the first row, and once the last row's gradient is there all of it is multiplied by
    `correction`. A step of one row needs none.
    """

    def __init__(self) -> None:
        super().__init__()
        self.unit = torch.ones(())  # examples of the first row, on average over the ranks

    def correction(self, examples: Tensor, divisor: int) -> Tensor | None:
        """What the gradient has to be multiplied by; `None` for nothing.

        Args:
            examples: of all rows, on average over the ranks.
            divisor: what the loss of every row was divided by, whatever the number of rows.
        """
        return None if divisor == 1 else divisor * self.unit / examples
