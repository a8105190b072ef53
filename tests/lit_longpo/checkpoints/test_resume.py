"""A resumed run computes what the whole run computed."""

import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from support import kill_worker, resume_worker
from support.ranks import run_ranks
from support.resume_worker import POLICIES, RESUMED_AFTER, STEPS
from support.zero3 import needs_deepspeed

from lit_longpo.checkpoints import read_weights, restore_random_state
from lit_longpo.checkpoints.choice import check_loadable
from lit_longpo.strategies import AnyDeviceDeepSpeedStrategy

ZERO2 = pytest.param("zero2", marks=[needs_deepspeed, pytest.mark.slow])
ZERO3 = pytest.param("zero3", marks=needs_deepspeed)
ZERO = [ZERO2, ZERO3]
SLOW_FSDP2 = pytest.param("fsdp2", marks=pytest.mark.slow)


@pytest.mark.parametrize("strategy", ["single", "ddp", SLOW_FSDP2, *ZERO])
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


@pytest.mark.parametrize("strategy", [SLOW_FSDP2, *ZERO])
def test_a_tied_head_is_trained_alike_by_every_strategy(strategy, resumed_run):
    result, ddp = resumed_run(strategy)[1]["full"]["whole"], resumed_run("ddp")[1]["full"]["whole"]
    assert result["losses"] == pytest.approx(ddp["losses"], rel=1e-4)
    assert torch.equal(result["weights"]["lm_head.weight"], result["weights"]["model.embed_tokens.weight"])


@pytest.mark.parametrize("strategy", [SLOW_FSDP2, *ZERO])
def test_adapters_start_and_are_trained_alike_under_every_strategy(strategy, resumed_run):
    """DPO's loss is log 2 where policy and reference are one: adapters start without effect."""
    losses, expected = (resumed_run(name)[1]["lora"]["whole"]["losses"] for name in (strategy, "ddp"))
    assert losses == pytest.approx(expected, rel=1e-4)


# How a process is killed: steps done, steps that are kept.
KILLS = {"before-1": (1, 0), "before-3": (3, 2), "before-5": (5, 4), "half-written": (4, 2), "not-renamed": (4, 2)}
SLOW_KILLS = ("before-3", "before-5", "not-renamed")


@pytest.mark.parametrize(
    "way", [pytest.param(way, marks=pytest.mark.slow) if way in SLOW_KILLS else way for way in KILLS]
)
def test_a_killed_process_is_continued_bit_by_bit(way, whole_run, tmp_path):
    run_ranks(kill_worker.kill_and_resume, tmp_path, way, num_ranks=1)
    whole, (done, kept) = dict(whole_run), KILLS[way]
    assert sorted(whole) == list(range(1, STEPS + 1))
    steps = [*range(1, done + 1), *range(kept + 1, STEPS + 1)]
    assert kill_worker.losses(tmp_path / f"{way}.txt") == [(step, whole[step]) for step in steps]


@pytest.mark.parametrize(
    "strategy", ["ddp", SLOW_FSDP2, pytest.param("zero3", marks=[needs_deepspeed, pytest.mark.slow])]
)
def test_a_killed_rank_of_two_loses_no_more_than_the_steps_since_the_last_checkpoint(strategy, resumed_run, tmp_path):
    with pytest.raises(AssertionError, match="signal SIGKILL"):
        run_ranks(kill_worker.killed, tmp_path, "lora", strategy, 3)
    assert [step for step, _ in kill_worker.losses(tmp_path / "lora.txt")] == [1, 2, 3]
    run_ranks(kill_worker.resumed, tmp_path, "lora", strategy)
    steps, losses = zip(*kill_worker.losses(tmp_path / "lora.txt"), strict=True)
    assert steps == (1, 2, 3, 3, 4, 5, 6)
    whole = resumed_run(strategy)[1]["lora"]["whole"]["losses"]
    assert losses == pytest.approx([whole[step - 1] for step in steps], rel=0.0, abs=1e-6)
    kept = sorted(path.name for path in (tmp_path / "lora/checkpoints").iterdir())
    assert kept == ["epoch=1-step=6.ckpt", "last.ckpt"]  # the resumed run knows which ones it has to delete


@pytest.mark.slow
def test_a_checkpoint_of_a_validation_in_mid_epoch_is_continued_bit_by_bit(tmp_path):
    whole, resumed = run_at_validation(tmp_path), run_at_validation(tmp_path, "epoch=0-step=2.ckpt")
    assert len(whole) == STEPS
    assert resumed == whole[2:]


@pytest.mark.parametrize(
    "strategy", ["single", SLOW_FSDP2, pytest.param("zero3", marks=[needs_deepspeed, pytest.mark.slow])]
)
def test_more_steps_go_on_in_the_middle_of_the_epoch_that_max_steps_ended(strategy, tmp_path):
    ranks = resume_worker.num_ranks(strategy)
    run_ranks(resume_worker.two_steps, strategy, tmp_path / "two", num_ranks=ranks)
    more = go_on(strategy, tmp_path / "two/checkpoints/last.ckpt", tmp_path / "more")
    run_ranks(resume_worker.go_on, strategy, None, tmp_path / "whole", num_ranks=ranks)
    whole = torch.load(tmp_path / "whole/restored.pt", weights_only=True)
    assert more["records"] == whole["records"][2:]


def run_at_validation(folder, checkpoint=None):
    module, data = resume_worker.parts(POLICIES["lora"], "single")
    losses = resume_worker.Losses()
    save = ModelCheckpoint(folder / "checkpoints", save_top_k=-1)  # saves when a validation ends
    trainer = resume_worker.trainer_for("single", folder, losses, save, val_check_interval=0.5)
    trainer.fit(module, datamodule=data, ckpt_path=checkpoint and folder / "checkpoints" / checkpoint)
    return losses.values


@pytest.mark.parametrize("strategy", ["single", "ddp", SLOW_FSDP2, *ZERO])
def test_checkpoints_of_adapters_hold_what_was_trained(strategy, resumed_run):
    """FSDP2 alone writes whatever lies in the model."""
    weights = read_weights(resumed_run(strategy)[0] / "lora/checkpoints/last.ckpt")
    trained = {name for name in weights if "lora_" in name}
    assert trained
    assert (weights.keys() == trained) == (strategy != "fsdp2")


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("ddp", "single"),
        pytest.param("fsdp2", "fsdp2 of 1", marks=pytest.mark.slow),
        pytest.param("fsdp2", "fsdp2 of 4", marks=pytest.mark.slow),
    ],
)
def test_other_processes_take_weights_and_optimizer_over_at_the_end_of_an_epoch(before, after, resumed_run, tmp_path):
    checkpoint = resumed_run(before)[0] / "full/checkpoints/step=4.ckpt"
    same, other = (go_on(strategy, checkpoint, tmp_path / strategy) for strategy in (before, after))
    assert other["weights"].keys() == same["weights"].keys()
    assert all(torch.equal(other["weights"][name], weight) for name, weight in same["weights"].items())
    assert len(same["moments"]) == len(same["weights"]) - 1  # head and embeddings are one
    assert all(map(torch.equal, other["moments"], same["moments"]))
    assert len(other["records"]) == STEPS - 4
    trained = [number for row in other["records"] for number in row]
    assert len(set(trained)) == len(trained)


def go_on(strategy, checkpoint, folder):
    run_ranks(resume_worker.go_on, strategy, checkpoint, folder, num_ranks=resume_worker.num_ranks(strategy))
    return torch.load(folder / "restored.pt", weights_only=True)


def test_other_processes_cannot_take_over_the_middle_of_an_epoch(resumed_run, tmp_path):
    checkpoint = resumed_run("ddp")[0] / "full/checkpoints/step=2.ckpt"
    with pytest.raises(AssertionError, match=r"data-parallel ranks \(2\).*got others \(1 ranks\).*end of an epoch"):
        run_ranks(resume_worker.go_on, "single", checkpoint, tmp_path, num_ranks=1)


@pytest.mark.parametrize(
    ("before", "stage", "then", "now", "anew"),
    [
        pytest.param("zero3", 2, "3", "1 or 2", "--initial_weights .* instead of --ckpt_path", marks=needs_deepspeed),
        pytest.param(
            *("zero2", 3, "1 or 2", "3", "export --checkpoint .* --reference.policy.source with the old source"),
            marks=[needs_deepspeed, pytest.mark.slow],
        ),
    ],
)
def test_zero_3_and_the_other_stages_do_not_take_over_from_each_other(before, stage, then, now, anew, resumed_run):
    """DeepSpeed ends in an assertion without a word; stages 1 and 2 read each other's, with the same losses."""
    checkpoint = resumed_run(before)[0] / "full/checkpoints/step=2.ckpt"
    with pytest.raises(ValueError, match=f"saved under ZeRO stage {then}, and stage {now} keeps .*{anew}"):
        check_loadable(checkpoint, AnyDeviceDeepSpeedStrategy(stage=stage), 2, fitting=True)
    check_loadable(checkpoint, AnyDeviceDeepSpeedStrategy(stage=5 - stage), 2, fitting=True)


def test_random_states_of_other_processes_are_not_restored_in_silence(caplog):
    restore_random_state([{}, {}], rank=0, world_size=1)
    assert "random states of 2 processes cannot be restored in 1" in caplog.text


@pytest.mark.parametrize("strategy", ["single", *ZERO])
def test_the_guard_sees_gradients_that_are_not_numbers_under_every_strategy(strategy, resumed_run):
    message, weights_are_good = resumed_run(strategy)[1]["guarded"]
    assert "expected a finite loss and gradient at step 1" in message
    assert weights_are_good


@pytest.mark.parametrize("strategy", ["ddp", SLOW_FSDP2, *ZERO[:1]])
def test_standalone_validation_from_a_checkpoint_is_that_of_one_process(strategy, resumed_run, tmp_path):
    """Two ranks share one row of two examples; none counts twice."""
    module, data = resume_worker.parts(POLICIES["full"], "single")
    trainer = resume_worker.trainer_for("single", tmp_path)
    module.configure_model()
    module.model.load_state_dict(resumed_run(strategy)[1]["full"]["whole"]["weights"])
    alone = trainer.validate(module, datamodule=data)[0]
    assert "val/rewards/margins" in alone
    assert resumed_run(strategy)[1]["validated"] == pytest.approx(alone, rel=1e-4, abs=1e-6)


@needs_deepspeed
def test_validation_from_zero_3_says_how_to_export(resumed_run):
    message = resumed_run("zero3")[1]["validated"]
    assert "python -m lit_longpo export --checkpoint" in message
    assert "--policy.source FOLDER" in message
