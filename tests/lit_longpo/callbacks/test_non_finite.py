"""Bad numbers: the rows are kept and computed again, or the step is left out, on all ranks alike."""

import json
import os
import re
import shlex
from types import SimpleNamespace

import pytest
import torch
from lightning.pytorch import Callback, Trainer, seed_everything
from support import small_fit
from support.preference_data import RandomPairs
from support.ranks import run_ranks

from lit_longpo import __main__ as command
from lit_longpo.callbacks import NonFiniteGuard
from lit_longpo.callbacks.non_finite import NonFiniteError, _Check
from lit_longpo.errors import InputError
from lit_longpo.objectives import ORPO
from lit_longpo.optimization import Optimization
from lit_longpo.policy import PolicyConfig
from lit_longpo.saved_rows import read_rows
from lit_longpo.strategies import AnyDeviceDeepSpeedStrategy, gathered_state_dict

CONSTANT = Optimization(schedule="constant", warmup_fraction=0.0)


class Spoiled(ORPO):
    """Losses of some records are no numbers, and so are their gradients."""

    spoiled: tuple[str, ...] = ()

    def training_step(self, batch, batch_idx):
        loss = super().training_step(batch, batch_idx)
        return loss * float("nan") if set(batch.policy.examples) & set(self.spoiled) else loss


class Ruined(ORPO):
    """Every loss is no number."""

    def training_step(self, batch, batch_idx):
        return super().training_step(batch, batch_idx) * float("nan")


class Without(RandomPairs):
    """All rows but those of some records."""

    left_out: tuple[str, ...] = ()

    def _batches(self, views):
        return [row for row in super()._batches(views) if not set(row.examples) & set(self.left_out)]


class Counts(Callback):
    def __init__(self):
        self.values = []

    def on_train_batch_end(self, trainer, *_):
        self.values.append(trainer.callback_metrics.get("train/skipped_steps"))


def train(folder, policy_folder, guard, *callbacks, spoiled=(), left_out=(), **options):
    seed_everything(0, verbose=False)
    module = Spoiled(policy=PolicyConfig(source=str(policy_folder)), optimization=CONSTANT)
    module.spoiled = spoiled
    data = Without(module.views)
    data.left_out = left_out
    settings = {"max_epochs": 1, "devices": 1, "use_distributed_sampler": False, **options}
    trainer = Trainer(
        accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, num_sanity_val_steps=0, limit_val_batches=0, default_root_dir=folder,
        callbacks=[guard, *callbacks], **settings,
    )  # fmt: skip
    trainer.fit(module, datamodule=data)
    return trainer, module


def weights(module):
    return torch.cat([parameter.detach().flatten() for parameter in module.parameters()])


def test_the_rows_of_the_step_are_kept(policy_folder, tmp_path):
    with pytest.raises(NonFiniteError, match=r"to compute these rows again read .*non_finite.safetensors with lit"):
        train(tmp_path, policy_folder, NonFiniteGuard(), spoiled=("record-4",), accumulate_grad_batches=2)
    kept = read_rows(tmp_path / "non_finite.safetensors")
    assert [row.policy.examples for row in kept] == [("record-4", "record-5"), ("record-6", "record-7")]
    whole = list(RandomPairs(ORPO(policy=PolicyConfig(source=str(policy_folder))).views).train_dataloader())
    assert torch.equal(kept[1].policy.input_ids, whole[3].policy.input_ids)


def test_a_step_that_is_left_out_moves_nothing(policy_folder, tmp_path, caplog):
    """The weights are those of a training that never saw the rows."""
    bad, counts = ("record-2", "record-6"), Counts()
    guard = NonFiniteGuard(on_bad="skip")
    trainer, module = train(tmp_path, policy_folder, guard, counts, spoiled=bad)
    assert "2 optimizer steps were left out (train/skipped_steps)" in caplog.text
    _, clean = train(tmp_path, policy_folder, NonFiniteGuard(), left_out=bad)
    assert torch.equal(weights(module), weights(clean))
    assert counts.values == [0, 1, 1, 2]
    assert trainer.global_step == 4  # the schedule goes on
    assert {path.name for path in tmp_path.glob("non_finite*.json")} == {f"non_finite-step{n}.json" for n in (1, 3)}
    report = json.loads((tmp_path / "non_finite-step3.json").read_text())
    assert report["records"] == ["record-6", "record-7"]
    assert report["again"] == f"read {tmp_path / 'non_finite-step3.safetensors'} with lit_longpo.saved_rows.read_rows"
    assert "non_finite-step3.json says which rows, and what to type" in caplog.text
    again = NonFiniteGuard(on_bad="skip")
    again.load_state_dict(guard.state_dict())
    assert again.skipped == 2


def test_too_many_in_a_row_stop_the_run(policy_folder, tmp_path):
    bad = ("record-0", "record-4", "record-6")  # the second row comes between
    with pytest.raises(NonFiniteError, match=r"at step 3, .* 2 times in a row for records record-6"):
        train(tmp_path, policy_folder, NonFiniteGuard(on_bad="skip", max_skipped=2), spoiled=bad)
    with pytest.raises(InputError, match="`max_skipped` of at least 1, got 0"):
        NonFiniteGuard(on_bad="skip", max_skipped=0)


@pytest.mark.parametrize(
    ("precision", "strategy", "why"),
    [
        ("16-mixed", object(), "fp16"),
        ("bf16-true", AnyDeviceDeepSpeedStrategy.__new__(AnyDeviceDeepSpeedStrategy), "Dee"),
    ],
)
def test_skipping_is_refused_where_others_step(precision, strategy, why):
    trainer = SimpleNamespace(precision=precision, strategy=strategy)
    with pytest.raises(InputError, match=f"expected `on_bad: stop` of NonFiniteGuard with {why}"):
        NonFiniteGuard(on_bad="skip").on_fit_start(trainer, None)


def test_values_on_their_way_from_a_gpu_are_waited_for():
    values = torch.zeros(3)
    guard = NonFiniteGuard(on_bad="skip", max_skipped=1)
    guard._pending = _Check(0, [], values, SimpleNamespace(synchronize=lambda: values.fill_(1)))
    guard._skip_if_bad(None, None)
    assert guard.skipped == 1


def on_two_ranks(folder, policy_folder, strategy):
    """Only the second rank's record is bad."""
    bad = ("record-2",) if os.environ["RANK"] == "1" else ()
    made = small_fit.STRATEGIES[strategy]()
    options = {"strategy": made, "devices": 2}
    counts = Counts()
    _, module = train(folder, policy_folder, NonFiniteGuard(on_bad="skip"), counts, spoiled=bad, **options)
    assert [float(value) for value in counts.values] == [0, 1, 1, 1]
    state = gathered_state_dict(module.model, keep=True) if strategy == "fsdp2" else module.model.state_dict()
    torch.save(state, folder / f"{os.environ['RANK']}.pt")


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["ddp", "fsdp2"])
def test_all_ranks_leave_the_same_step_out(strategy, policy_folder, tmp_path):
    """Both ranks have the same rows, so that one process without the bad row is the same training."""
    run_ranks(on_two_ranks, tmp_path, policy_folder, strategy)
    _, clean = train(tmp_path, policy_folder, NonFiniteGuard(), left_out=("record-2",))
    for rank in (0, 1):
        for name, value in torch.load(tmp_path / f"{rank}.pt", weights_only=True).items():
            torch.testing.assert_close(value, clean.model.state_dict()[name], atol=1e-6, rtol=1e-6)


def test_one_command_computes_the_rows_again(tmp_path, monkeypatch):
    """Here every row is bad, so that what is computed again is, too."""
    monkeypatch.chdir(tmp_path)
    settings = {
        "model": f"{Ruined.__module__}.Ruined",
        "trainer": "trainer/smoke",
        "data.num_train": 16,
        "data.num_val": 2,
        "data.long_words": "[32, 48]",
        "data.short_words": 24,
        "trainer.default_root_dir": "runs",
        "trainer.enable_progress_bar": "false",
    }
    words = [word for name, value in settings.items() for word in (f"--{name}", str(value))]
    with pytest.raises(SystemExit) as first:
        command.main(["fit", "--config", "orpo", *words])
    typed = re.search(r"type: python -m lit_longpo (fit .*)$", str(first.value.code))
    assert typed, first.value.code
    with pytest.raises(SystemExit) as second:
        command.main(shlex.split(typed[1]))
    report = next((tmp_path / "runs").rglob("non_finite.json"))
    assert json.loads(report.read_text())["again"] == f"type: {typed[0].removeprefix('type: ')}"
    records = r"for records ([^;]*);"
    assert re.search(records, str(second.value.code))[1] == re.search(records, str(first.value.code))[1]
    assert not list((tmp_path / "runs").glob("non_finite*")), "a try keeps nothing"
