"""A resumed run computes what the whole run computed."""

import importlib.util

import pytest
import torch
from lightning.pytorch import Callback
from support import resume_worker
from support.kill_worker import DURING, KILLED_BEFORE
from support.resume_worker import POLICIES, RESUMED_AFTER, STEPS

from lit_longpo.checkpoints import restore_random_state

HAS_DEEPSPEED = importlib.util.find_spec("deepspeed") is not None
zero = pytest.mark.skipif(not HAS_DEEPSPEED, reason='needs pip install "lit_longpo[deepspeed]"')
ZERO = [pytest.param("zero2", marks=zero), pytest.param("zero3", marks=zero)]


@pytest.mark.parametrize("strategy", ["single", "ddp", "fsdp2", *ZERO])
@pytest.mark.parametrize("policy", POLICIES)
def test_losses_after_a_resume_in_mid_epoch_are_those_of_the_whole_run(strategy, policy, resumed_run):
    _, result = resumed_run(strategy)
    whole, resumed = result[policy]["whole"], result[policy]["resumed"]
    expected = whole["losses"][RESUMED_AFTER:]
    assert len(set(whole["losses"])) > STEPS // 2
    tolerance = 0.0 if strategy == "single" else 1e-6
    assert resumed["losses"] == pytest.approx(expected, rel=0.0, abs=tolerance)
    for name, weight in whole["weights"].items():
        torch.testing.assert_close(resumed["weights"][name], weight, rtol=0.0, atol=tolerance)
    assert resumed["rate"] == whole["rate"]


@pytest.mark.parametrize("strategy", ["fsdp2", *ZERO])
def test_a_tied_head_is_trained_alike_by_every_strategy(strategy, resumed_run):
    result, ddp = resumed_run(strategy)[1]["full"]["whole"], resumed_run("ddp")[1]["full"]["whole"]
    assert result["losses"] == pytest.approx(ddp["losses"], rel=1e-4)
    assert torch.equal(result["weights"]["lm_head.weight"], result["weights"]["model.embed_tokens.weight"])


def test_a_killed_process_is_continued_bit_by_bit(killed_runs):
    resumed_after = {1: 0, 3: 2, 5: 4}
    cases = {f"before-{step}": (step, resumed_after[step]) for step in KILLED_BEFORE}
    cases |= dict.fromkeys(DURING, (4, 2))
    whole = dict(killed_runs["whole"])
    assert sorted(whole) == list(range(1, STEPS + 1))
    for name, (done, kept) in cases.items():
        steps = [*range(1, done + 1), *range(kept + 1, STEPS + 1)]
        assert killed_runs[name] == [(step, whole[step]) for step in steps], name


class Restored(Callback):
    """What is in memory when training goes on, and the records that are trained on."""

    def __init__(self):
        self.records = []

    def on_train_batch_start(self, trainer, module, batch, *_):
        self.records.append(batch.policy.examples)

    def on_train_start(self, trainer, module):
        self.weights = {name: tensor.clone() for name, tensor in module.state_dict().items()}
        self.moments = [state["exp_avg"].clone() for state in trainer.optimizers[0].state.values()]


def resume_in_one_process(checkpoint, folder):
    module, data = resume_worker.parts(POLICIES["full"], max_examples=4)  # eight rows, where each of two ranks had four
    restored = Restored()
    trainer = resume_worker.trainer_for("single", folder, restored)
    trainer.fit(module, datamodule=data, ckpt_path=checkpoint)
    return restored, data.train_dataloader().batch_sampler


def test_other_processes_take_weights_and_optimizer_over_at_the_end_of_an_epoch(resumed_run, tmp_path):
    folder, _ = resumed_run("ddp")
    checkpoint = folder / "full/checkpoints/step=4.ckpt"
    saved = torch.load(checkpoint, weights_only=True)
    restored, sampler = resume_in_one_process(checkpoint, tmp_path)
    for name, weight in saved["state_dict"].items():
        assert torch.equal(restored.weights[name], weight)
    for moment, state in zip(restored.moments, saved["optimizer_states"][0]["state"].values(), strict=True):
        assert torch.equal(moment, state["exp_avg"])
    second_epoch = sampler.batches(1)[: STEPS - 4]
    assert [{int(name.split("-")[1]) for name in row} for row in restored.records] == list(map(set, second_epoch))


def test_other_processes_cannot_take_over_the_middle_of_an_epoch(resumed_run, tmp_path):
    folder, _ = resumed_run("ddp")
    with pytest.raises(ValueError, match=r"data-parallel ranks \(2\).*got others \(1 ranks\).*end of an epoch"):
        resume_in_one_process(folder / "full/checkpoints/step=2.ckpt", tmp_path)


def test_random_states_of_other_processes_are_not_restored_in_silence(caplog):
    restore_random_state([{}, {}], rank=0, world_size=1)
    assert "random states of 2 processes cannot be restored in 1" in caplog.text


@pytest.mark.parametrize("strategy", ["single", *ZERO])
def test_the_guard_sees_gradients_that_are_not_numbers_under_every_strategy(strategy, resumed_run):
    message, weights_are_good = resumed_run(strategy)[1]["guarded"]
    assert "expected a finite loss and gradient at step 1" in message
    assert weights_are_good


@pytest.mark.parametrize("strategy", ["single", "ddp", "fsdp2", *ZERO[:1]])
def test_standalone_validation_from_a_checkpoint(strategy, resumed_run):
    assert resumed_run(strategy)[1]["validated"] == pytest.approx(resumed_run("single")[1]["validated"], rel=0.5)


@zero
def test_validation_from_zero_3_says_how_to_export(resumed_run):
    message = resumed_run("zero3")[1]["validated"]
    assert "python -m lit_longpo export --checkpoint" in message
    assert "--policy.source FOLDER" in message
