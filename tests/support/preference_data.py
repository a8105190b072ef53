"""A data module without texts: random token groups for the views an objective asks."""

import random
from collections.abc import Iterable

import torch
from lightning.pytorch import LightningDataModule
from torchdata.stateful_dataloader import StatefulDataLoader

from lit_longpo.batch import Group, PackedBatch, PreferenceBatch, Response, View, Views
from lit_longpo.engine import pack


def _tokens(draw: random.Random, count: int) -> tuple[int, ...]:
    return tuple(draw.randrange(4, 80) for _ in range(count))


def groups_for(example: int, views: tuple[View, ...], *, sequence: bool = False, jump: bool = False) -> list[Group]:
    """The same example gives the same tokens whatever the views; lengths differ from one to the next.

    With `jump` the positions of every second token of a prompt leap.
    """
    draw = random.Random(example)
    prompts = {"short": _tokens(draw, 6), "long": _tokens(draw, 20 + 3 * (example % 4))}
    answers = {"chosen": _tokens(draw, 3 + example % 3), "rejected": _tokens(draw, 2 + example % 2)}
    groups = []
    for context, prompt in prompts.items():
        roles = [view.role for view in views if view.context == context]
        made = tuple(Response(role, answers[role], (True,) * len(answers[role])) for role in roles)
        positions = tuple(number + 9 * ((number + 1) // 2) for number in range(len(prompt))) if jump else None
        if made:
            groups.append(Group(f"record-{example}", context, prompt, made, positions, score_sequence=sequence))
    return groups


def emphasis_of(examples: Iterable[str]) -> tuple[torch.Tensor, torch.Tensor]:
    """Weights and margins of `record-0`, `record-1`, ...; far from 1 and 0, and none twice among neighbours."""
    numbers = [int(name.removeprefix("record-")) for name in examples]
    weights = [0.25 + 0.75 * (number % 5) for number in numbers]
    return torch.tensor(weights), torch.tensor([0.5 * (number % 3) - 0.4 for number in numbers])


class RandomPairs(LightningDataModule):
    """With `emphasis` every example has a weight and a margin of its own."""

    def __init__(self, views: Views, num_examples: int = 8, per_batch: int = 2, *, emphasis: bool = False) -> None:
        super().__init__()
        self.views, self.num_examples, self.per_batch = views, num_examples, per_batch
        self.emphasis = emphasis

    def _batches(self, views: tuple[View, ...]) -> list[PackedBatch]:
        starts = range(0, self.num_examples, self.per_batch)
        return [
            pack([g for n in range(start, start + self.per_batch) for g in groups_for(n, views)]) for start in starts
        ]

    def _loader(self) -> StatefulDataLoader:
        policy = self._batches(self.views.policy)
        reference = self._batches(self.views.reference) if self.views.reference else [None] * len(policy)
        if self.views.reference == self.views.policy:
            reference = policy
        numbers = [emphasis_of(row.examples) if self.emphasis else (None, None) for row in policy]
        rows = [PreferenceBatch(*row, *own) for *row, own in zip(policy, reference, numbers, strict=True)]
        return StatefulDataLoader(rows, batch_size=None, generator=torch.Generator().manual_seed(0))

    def train_dataloader(self) -> StatefulDataLoader:
        return self._loader()

    def val_dataloader(self) -> StatefulDataLoader:
        return self._loader()

    def reference_dataloader(self) -> Iterable[PackedBatch]:
        return self._batches(self.views.reference) if self.views.reference else []


class RaggedPairs(RandomPairs):
    """Every second row has one example only."""

    def _batches(self, views: tuple[View, ...]) -> list[PackedBatch]:
        rows = [(n, n + 1) if n % 3 == 0 else (n,) for n in range(self.num_examples) if n % 3 != 1]
        return [pack([group for n in row for group in groups_for(n, views)]) for row in rows]


def row_metrics(*margins):
    """Metrics as objectives return them for a row of pairs with these reward margins. Shape of each: (margins,)."""
    margins = torch.tensor(margins, dtype=torch.float32)
    return {"rewards/margins": margins, "logps/chosen": margins - 5.0, "logps/rejected": margins * 0 - 4.5}
