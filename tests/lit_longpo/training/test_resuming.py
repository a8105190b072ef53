"""What a checkpoint of an objective holds beside the trainer's part comes back, once."""

from types import SimpleNamespace

import pytest
import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.trainer.states import TrainerFn
from torch import nn

from lit_longpo.errors import InputError
from lit_longpo.training import resuming
from lit_longpo.training.resuming import Resumption, check_holds_trained, trained_names


class Half(LightningModule):
    """One weight is trained, one is not."""

    def __init__(self):
        super().__init__()
        self.model = nn.ModuleDict({"base": nn.Linear(2, 2, bias=False), "adapter": nn.Linear(2, 2, bias=False)})
        self.model["base"].requires_grad_(False)


def test_what_is_trained_has_to_be_there_and_nothing_else():
    """Such parts are loaded non-strictly, so that torch would leave an adapter at its start."""
    module = Half()
    assert trained_names(module) == {"model.adapter.weight"}
    check_holds_trained({"state_dict": {"model.adapter.weight": torch.zeros(2, 2)}}, module)
    check_holds_trained({}, module)  # strategies that shard load weights apart
    with pytest.raises(
        InputError, match=r"lacks 1 trained tensors of this policy, for example 'model\.adapter\.weight'"
    ):
        check_holds_trained({"state_dict": {"model.base.weight": torch.zeros(2, 2)}}, module)


@pytest.fixture
def logged(monkeypatch):
    """Steps from which a trainer is told to log."""
    steps = list[int]()
    monkeypatch.setattr(resuming, "log_from", lambda _, step: steps.append(step))
    return steps


def test_the_next_draw_is_the_one_that_was_due_and_only_once(logged):
    """Whatever start-up draws in between; and a second row draws on. Steps count on from the checkpoint's."""
    resumption, trainer = Resumption(), SimpleNamespace(world_size=1, global_step=5)
    torch.manual_seed(1)
    states = resuming.gather_random_states()
    due = torch.rand(3)
    resumption.load({"random_states": states})
    torch.rand(7)
    resumption.restore_random_states(0, trainer)
    assert torch.equal(torch.rand(3), due)
    resumption.restore_random_states(0, trainer)
    assert not torch.equal(torch.rand(3), due)
    assert logged == [5]


@pytest.mark.parametrize(
    ("rows", "is_last", "left_out"), [(5, False, 1), (7, False, 3), (8, False, 0), (9, True, 0), (0, False, 0)]
)
def test_rows_whose_step_had_not_ended_are_said(rows, is_last, left_out, logged, caplog):
    """Lightning's own trainer saves there: transformers#22143, OneTrainer#1465."""
    trainer = SimpleNamespace(world_size=1, global_step=1, is_global_zero=True)
    batches = {"is_last_batch": is_last, "current": {"ready": rows}, "total": {"ready": rows}}
    loops = {"fit_loop": {"epoch_loop.batch_progress": batches}}
    resumption = Resumption()
    resumption.load(
        {
            "random_states": resuming.gather_random_states(),
            "loops": loops,
            "run": {"settings": {"trainer.accumulate_grad_batches": 4}},
        }
    )
    resumption.restore_random_states(0, trainer)
    said = [line for line in caplog.messages if "between the rows of one optimizer step" in line]
    assert len(said) == bool(left_out)
    assert not left_out or f"its {left_out} rows before that change no weight" in said[0]


@pytest.mark.parametrize(("steps", "ends", "step"), [(5, True, 4), (5, False, 5), (0, True, 0)])
def test_a_validation_that_was_due_is_done_once(steps, ends, step, logged, monkeypatch):
    """Under the step of a run that was not stopped: it validates before it counts the row that steps."""
    done = []
    monkeypatch.setattr(resuming, "ends_step", lambda _: ends)
    monkeypatch.setattr(resuming, "validate_now", done.append)
    resumption = Resumption()
    resumption.load({"validation_due": True, "run": {"metrics": {"train/loss": 1.0}}})
    assert resumption.metrics_before == {"train/loss": 1.0}
    trainer = SimpleNamespace(global_step=steps)
    for _ in range(2):
        resumption.validate_if_due(trainer)
    assert done == [trainer]
    assert logged == [step]


@pytest.mark.parametrize(("stage", "sanity"), [(TrainerFn.VALIDATING, False), (TrainerFn.FITTING, True)])
def test_only_a_validation_of_the_training_counts(stage, sanity):
    progress = SimpleNamespace(total=SimpleNamespace(ready=5))
    loop = SimpleNamespace(epoch_loop=SimpleNamespace(batch_progress=progress))
    resumption = Resumption()
    resumption.note_validation(SimpleNamespace(state=SimpleNamespace(fn=stage), sanity_checking=sanity, fit_loop=loop))
    assert resumption.validated is None
    resumption.note_validation(
        SimpleNamespace(state=SimpleNamespace(fn=TrainerFn.FITTING), sanity_checking=False, fit_loop=loop)
    )
    assert resumption.validated == 5
