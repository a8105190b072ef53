import torch
from lightning.pytorch import Trainer
from support.preference_data import RandomPairs

from lit_longpo.objectives import SimPO, preference_signal
from lit_longpo.objectives.preference_signal import PreferenceSignal
from lit_longpo.policy import PolicyConfig

SAID = "prefers the chosen answer in all of the first"


def row(*right):
    right = torch.tensor(right, dtype=torch.float32)
    return {"rewards/accuracies": right, "logps/chosen": right - 5.0, "logps/rejected": right * 0 - 4.5}


def watched(*rows, by_log_probs=False):
    signal = PreferenceSignal(by_log_probs=by_log_probs)
    looked = []
    for values in rows:
        signal.add(values)
        looked.append(signal.look())
    return looked


def test_it_is_said_once_enough_pairs_are_there(caplog):
    assert watched(row(*[1] * 16), row(*[1] * 15), row(1, 1)) == [False, False, True]
    assert f"{SAID} 33 pairs" in caplog.text
    assert "python -m lit_longpo build" in caplog.text


def test_one_wrong_pair_is_a_signal(caplog):
    assert watched(row(*[1] * 31, 0)) == [True]
    assert not caplog.text


def test_with_a_reference_log_probabilities_are_compared(caplog):
    """The rewards of a policy that is its reference are all 0, and so is their accuracy."""
    untrained = {**row(*[1] * 32), "rewards/accuracies": torch.zeros(32)}
    assert watched(untrained) == [True]
    assert not caplog.text
    assert watched(untrained, by_log_probs=True) == [True]
    assert SAID in caplog.text


def test_objectives_without_rejected_answers_say_nothing(caplog):
    assert watched({"nll": torch.zeros(64)}, {"nll": torch.zeros(64)}) == [False, False]
    assert not caplog.text


class Certain(SimPO):
    def loss(self, policy, reference):
        losses, metrics = super().loss(policy, reference)
        return losses, {**metrics, "rewards/accuracies": torch.ones_like(losses.detach())}


def test_a_run_looks_at_its_first_pairs_only(policy_folder, tmp_path, caplog, monkeypatch):
    monkeypatch.setattr(preference_signal, "_NUM_PAIRS", 4)
    for number, objective in enumerate((SimPO, Certain)):
        module = objective(policy=PolicyConfig(source=str(policy_folder)))
        trainer = Trainer(
            max_steps=4, accelerator="cpu", logger=False, enable_progress_bar=False, enable_model_summary=False,
            use_distributed_sampler=False, enable_checkpointing=False, default_root_dir=tmp_path, limit_val_batches=0,
        )  # fmt: skip
        trainer.fit(module, datamodule=RandomPairs(module.views))
        assert caplog.text.count(f"{SAID} 4 pairs") == number
