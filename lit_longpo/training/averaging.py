"""Means over examples, whatever the rows and the ranks that hold them.

A pair's own weight multiplies its loss; the mean stays one over the number of examples, as where WPO (arXiv
2406.11827) is implemented, TRL's included: all weights doubled double the gradient. So a weighted row needs no other
count, and a pair of weight 0.5 counts half of what it would whichever pairs it shares a step with.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from torch import Tensor, nn

from lit_longpo.batch import tensor_on
from lit_longpo.strategies import ends_step, is_deepspeed, multiply_gradients

_ON_THE_BAR = {"loss", "rewards/margins"}
Reduce = Callable[..., Tensor]  # `Strategy.reduce`


class ExampleMeans:
    """Means over examples, each with the same weight whatever the size of the row that holds it.

    Ranks that share a row all hold its examples, in the sum as in the count, so nothing counts twice.
    """

    def __init__(self) -> None:
        self.rows = 0
        self._names: tuple[str, ...] = ()
        self._sources: tuple[str, ...] = ()
        # Over all and over each source, of each name and of the examples. Shape: (1 + sources, names + 1).
        self._sums = torch.zeros(())

    def add(
        self, values: dict[str, Tensor], *, counted: bool = True, sources: Mapping[str, Tensor] | None = None
    ) -> None:
        """Add a row.

        Args:
            values: per-example values. Shape of each: (B,).
            counted: False if another rank has the same row; then this rank's values are left out.
            sources: which examples are of each source, the same sources for every row; their means are given too.
                Shape of each: (B,).
        """
        columns = [value.detach().double() for value in values.values()]
        every = torch.ones_like(columns[0])
        masks = torch.stack([every, *(mask.to(every) for mask in (sources or {}).values())])
        # `where`, because 0 times a value that is not finite is not 0.
        row = torch.where(masks[:, None] > 0, torch.stack([*columns, every]), 0.0).sum(dim=2)
        row = row if counted else torch.zeros_like(row)
        self._sums = row if self.rows == 0 else self._sums + row
        self._names, self._sources, self.rows = tuple(values), tuple(sources or ()), self.rows + 1

    def over_all_ranks(self, reduce: Reduce) -> tuple[dict[str, Tensor], Tensor]:
        """Means over the examples of all rows of all ranks, and how many of these a rank has on average.

        A source without an example has no means.

        One reduction; a collective call. Shape of each: ().
        """
        totals = reduce(self._sums.clone(), reduce_op="mean")
        examples = totals[:, -1]
        means = (totals[:, :-1] / examples[:, None]).float()
        found = _named(self._names, means[0])
        for source, row, number in zip(self._sources, means[1:], examples[1:].tolist(), strict=True):
            if number:
                found |= _named([f"{source}/{name}" for name in self._names], row)
        return found, examples[0].float()


def _named(names: Sequence[str], means: Tensor) -> dict[str, Tensor]:
    return dict(zip(names, means.unbind(), strict=True))


class StepMean:
    """An optimizer step's loss, metrics and gradient as means over its examples, whatever its rows and ranks.

    How many examples the later rows hold is not known when the first one's gradient is taken. So every row's loss is
    its sum divided by the number of examples of the first row, and once the last row's gradient is there all of it is
    multiplied by a correction. A step of one row needs none.
    """

    def __init__(self) -> None:
        self._rows = ExampleMeans()  # of the step so far
        self._unit = torch.ones(())  # examples of its first row, on average over the ranks
        self._correction: Tensor | None = None  # of its gradient, until that is there

    def add(self, values: dict[str, Tensor], trainer: Trainer) -> tuple[Tensor, dict[str, Tensor]]:
        """Add a row of the step; a collective call at its first and last row.

        Args:
            values: per-example losses, with their graph and named "loss", and metrics. Shape of each: (B,).
            trainer: in its training loop.

        Returns:
            The row's share of the loss, Shape: (), and at the step's last row the means over all its examples.
        """
        self._rows.add(values)
        is_first, is_last, means = self._rows.rows == 1, ends_step(trainer), dict[str, Tensor]()
        divisor = trainer.accumulate_grad_batches  # of every row's loss, also where an epoch's end cuts a step short
        if is_first or is_last:
            means, examples = self._rows.over_all_ranks(trainer.strategy.reduce)
            self._unit = examples if is_first else self._unit
        if is_last:
            self._correction = None if divisor == 1 else divisor * self._unit / examples
            self._rows = ExampleMeans()
        loss = values["loss"].sum() / self._unit
        twice = is_deepspeed(trainer.strategy)  # divides after Lightning has divided
        return loss * divisor if twice else loss, means if is_last else {}

    def correct_gradients(self, trainer: Trainer, model: nn.Module) -> None:
        """After the backward pass of the step's last row, make its gradient the mean over all its examples."""
        if self._correction is not None:
            multiply_gradients(trainer, model, self._correction)
            self._correction = None


def is_repeated(loader: Any, number: int) -> bool:
    """Whether another rank has this rank's row of that number too, so that it must not count again."""
    is_repeated_in = getattr(getattr(loader, "batch_sampler", None), "is_repeated", None)
    return is_repeated_in is not None and bool(is_repeated_in(number))


def log_means(module: LightningModule, stage: str, means: Mapping[str, Tensor]) -> None:
    """Log means that all ranks share; `sync_dist` only keeps Lightning from warning that they might differ.

    Shape of each: ().
    """
    for name, mean in means.items():
        on_the_bar = name in _ON_THE_BAR
        module.log(f"{stage}/{name}", mean, prog_bar=on_the_bar, batch_size=1, sync_dist=stage != "train")


def log_learning_rate(module: LightningModule) -> None:
    """Log the step's learning rate, which all parameters share; as a tensor, so that logging waits for no GPU."""
    rate = module.trainer.optimizers[0].param_groups[0]["lr"]
    module.log("train/learning_rate", tensor_on(module.device, [float(rate)], torch.float32)[0], batch_size=1)
