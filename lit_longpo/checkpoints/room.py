"""Checks before a checkpoint is written that the disk has room for it, if its size can be known."""

import logging
from collections import Counter
from collections.abc import Iterable, Iterator
from math import prod
from pathlib import Path
from tempfile import gettempdir

from lightning.pytorch import Trainer
from lightning.pytorch.strategies import DeepSpeedStrategy, ModelParallelStrategy
from torch import Tensor, nn

from lit_longpo.checkpoints.loops import model_checkpoints
from lit_longpo.checkpoints.stores import is_address
from lit_longpo.checkpoints.whole import newest_whole
from lit_longpo.errors import InputError, StorageError
from lit_longpo.files.storing import room_problem
from lit_longpo.optimization.state_bytes import optimizer_bytes

log = logging.getLogger(__name__)

ELSEWHERE = "--trainer.default_root_dir FOLDER"


class CheckpointRoom:
    """What this run's checkpoints have taken so far, and whether the next one fits."""

    def __init__(self, trainer: Trainer) -> None:
        self._trainer = trainer
        self._sizes: dict[bool, int] = {}  # of the last one, by whether it holds weights only
        self._folders: set[Path] = set()

    def check(self, folder: Path, *, weights_only: bool, at_least: int = 0) -> int:
        """Refuse, on all processes alike, to write what the disk has no room for; say if a folder is made anew.

        Returns:
            Bytes that it takes at least.
        """
        known = (least_size(self._trainer, weights_only=weights_only), self._sizes.get(weights_only, 0))
        need = max(at_least, *known)
        first = self._trainer.is_global_zero
        problem = self._trainer.strategy.broadcast(self._problem(folder, need) if first else None)
        if problem is not None:
            last = newest_whole(Path(self._trainer.default_root_dir))
            raise StorageError(
                f"expected room for a checkpoint of {problem}; make room there, or type {ELSEWHERE}"
                + (f"; {last} is whole, --ckpt_path last goes on from there" if last else "")
            )
        if first and folder in self._folders and not folder.exists():
            log.warning(
                "expected checkpoints in %s, but it was deleted meanwhile, perhaps the run's whole folder: it is made "
                "anew, what lay there is gone",
                folder,
            )
        return need

    def check_early(self) -> None:
        """Before the first row: is there room for what is trained, and for the optimizer's state that comes of it?

        Raises:
            StorageError: there is not.
        """
        callback = next(iter(model_checkpoints(self._trainer)), None)
        if callback is None or not callback.dirpath or is_address(callback.dirpath):
            return
        weights_only = bool(callback.save_weights_only)
        need = least_size(self._trainer, weights_only=True)
        if need and not weights_only:
            need += expected_states(self._trainer)
        self.check(Path(callback.dirpath), weights_only=weights_only, at_least=need)

    def note(self, written: Path, folder: Path, *, weights_only: bool) -> None:
        """Remember what a checkpoint has taken."""
        files = written.rglob("*") if written.is_dir() else [written]
        self._sizes[weights_only] = sum(file.stat().st_size for file in files if file.is_file())
        self._folders.add(folder)

    def _problem(self, folder: Path, need: int) -> str | None:
        """Where there is no room; Lightning writes single files into a temporary folder first."""
        problem = room_problem(folder, need)
        if problem is None and not isinstance(self._trainer.strategy, DeepSpeedStrategy | ModelParallelStrategy):
            problem = room_problem(Path(gettempdir()), need)
            return problem and f"{problem} (files are written there first: the variable TMPDIR names another place)"
        return problem


def least_size(trainer: Trainer, *, weights_only: bool) -> int:
    """Bytes that the next checkpoint takes at least: what is trained, and the optimizer's state.

    0 with DeepSpeed, which keeps both to itself; then the last checkpoint tells.
    """
    if isinstance(trainer.strategy, DeepSpeedStrategy) or trainer.lightning_module is None:
        return 0
    trained = (parameter for parameter in trainer.lightning_module.parameters() if parameter.requires_grad)
    states = () if weights_only else (state for one in trainer.optimizers for state in one.state.values())
    return _bytes(trained) + _bytes(value for state in states for value in _tensors(state))


def expected_states(trainer: Trainer) -> int:
    """Bytes of the optimizer's state after its first step, by a trial on tensors without memory.

    0 for a module that is not ours, and for an optimizer that cannot be tried so: one that looks at its numbers.
    """
    optimization = getattr(trainer.lightning_module, "optimization", None)
    if optimization is None:
        return 0
    embeddings = {id(m.weight) for m in trainer.lightning_module.modules() if isinstance(m, nn.Embedding)}
    trained = [parameter for parameter in trainer.lightning_module.parameters() if parameter.requires_grad]
    kinds = Counter((parameter.dtype, tuple(parameter.shape), id(parameter) in embeddings) for parameter in trained)
    taken = (
        count * prod(shape) * optimizer_bytes(optimization.optimizer, dtype, shape, embedding=embedding).states
        for (dtype, shape, embedding), count in kinds.items()
    )
    try:
        return round(sum(taken))
    except (InputError, RuntimeError):  # a training is not stopped because its checkpoints cannot be foretold
        return 0


def _bytes(tensors: Iterable[Tensor]) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


def _tensors(state: object) -> Iterator[Tensor]:
    values = state.values() if isinstance(state, dict) else ()
    return (value for value in values if isinstance(value, Tensor))
