"""What a metric chose before a resume is among the best ones after it, in whichever folder the run goes on."""

from types import SimpleNamespace

import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from support.preference_data import RandomPairs

from lit_longpo.checkpoints import ResumableTrainer, remember_best
from lit_longpo.objectives import ORPO
from lit_longpo.policy import PolicyConfig


def fit(policy, folder, steps, checkpoint=None):
    """Losses of the steps, and the callback that keeps the two best of them."""
    losses = {}

    class Seen(ORPO):
        def on_train_batch_end(self, *arguments):
            super().on_train_batch_end(*arguments)
            losses[self.global_step] = float(self.step_loss)

    keep = ModelCheckpoint(folder, "{step}", monitor="train/loss", every_n_train_steps=1, save_top_k=2)
    module = Seen(policy=PolicyConfig(source=str(policy)))
    ResumableTrainer(
        max_steps=steps, accelerator="cpu", logger=False, enable_progress_bar=False, enable_model_summary=False,
        limit_val_batches=0, use_distributed_sampler=False, num_sanity_val_steps=0, callbacks=[keep],
    ).fit(module, datamodule=RandomPairs(module.views, num_examples=12), ckpt_path=checkpoint)  # fmt: skip
    return losses, keep


def test_the_best_of_a_training_that_goes_on_elsewhere_is_the_best_of_all_of_it(policy_folder, tmp_path):
    """Lightning 2.6 forgets those of another folder (Lightning#12045), and every start has its own."""
    before, kept = fit(policy_folder, tmp_path / "first", 4)
    start = max(step for step in before if str(tmp_path / f"first/step={step}.ckpt") in kept.best_k_models)
    after, keep = fit(policy_folder, tmp_path / "second", 6, tmp_path / f"first/step={start}.ckpt")
    losses = {step: loss for step, loss in before.items() if step <= start} | after
    best = sorted(losses, key=losses.get)[:2]
    paths = [str(tmp_path / ("second" if step > start else "first") / f"step={step}.ckpt") for step in best]
    assert set(keep.best_k_models) == set(paths)
    assert keep.best_model_path == paths[0]
    assert {str(path) for path in (tmp_path / "first").iterdir()} == set(kept.best_k_models)


def going_on(*callbacks, broadcast=lambda mine: mine):
    return SimpleNamespace(callbacks=callbacks, strategy=SimpleNamespace(broadcast=broadcast), is_global_zero=True)


@pytest.mark.parametrize(
    ("mode", "top", "expected"), [("min", 2, "ab"), ("max", 2, "cb"), ("max", 1, "c"), ("min", -1, "abc")]
)
def test_as_many_are_remembered_as_are_kept(mode, top, expected, tmp_path):
    keep = ModelCheckpoint(tmp_path / "now", monitor="val/own", mode=mode, save_top_k=top)
    scores = {str(tmp_path / name): torch.tensor(float(number)) for number, name in enumerate("abc")}
    for path in scores:
        open(path, "w").close()
    gone = {str(tmp_path / "gone"): torch.tensor(-9.0 if mode == "min" else 9.0)}
    state = {"dirpath": "before", "best_model_path": "", "best_model_score": None, "best_k_models": scores | gone}
    checkpoint = {"callbacks": {keep.state_key: dict(state)}}
    remember_best(going_on(keep, ModelCheckpoint()), checkpoint)
    keep.load_state_dict(checkpoint["callbacks"][keep.state_key])
    assert [path[-1] for path in keep.best_k_models] == list(expected)
    assert (keep.best_model_path[-1], keep.kth_best_model_path[-1]) == (expected[0], expected[-1])
    assert (keep.best_model_score, keep.kth_value) == (scores[keep.best_model_path], scores[keep.kth_best_model_path])


def test_all_processes_remember_what_the_first_one_has(tmp_path):
    """On another machine's disk there is none: it would keep what the first passes over, and wait for it."""
    keep, path = ModelCheckpoint(tmp_path / "now", monitor="val/own"), str(tmp_path / "elsewhere.ckpt")
    state = {"dirpath": "before", "best_model_path": path, "best_k_models": {path: torch.ones(())}}
    checkpoint = {"callbacks": {keep.state_key: state}}
    remember_best(going_on(keep, broadcast=lambda mine: [path]), checkpoint)
    assert (state["dirpath"], list(state["best_k_models"])) == (keep.dirpath, [path])


def test_best_ones_that_are_gone_are_said(tmp_path, caplog):
    keep = ModelCheckpoint(tmp_path / "now", monitor="val/own")
    state = {"dirpath": "before", "best_model_path": "gone.ckpt", "best_k_models": {"gone.ckpt": torch.ones(())}}
    remember_best(going_on(keep), {"callbacks": {keep.state_key: state}})
    assert state["dirpath"] == "before"
    assert "best checkpoints by val/own of before are not there any more" in caplog.text
    caplog.clear()
    remember_best(going_on(keep), {})
    remember_best(going_on(keep), {"callbacks": {keep.state_key: {**state, "best_k_models": {}}}})
    assert not caplog.records
