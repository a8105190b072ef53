"""What the untrained policy makes of the first pairs: counted, reported, and a word where there is nothing to learn."""

import json
from types import SimpleNamespace

import pytest
import torch
from lightning.pytorch.loggers import TensorBoardLogger
from support.preference_data import RandomPairs, groups_for, row_metrics
from support.tracked_runs import Tracked
from transformers import AutoModelForCausalLM

from lit_longpo.batch import Scores, Slot, View, Views
from lit_longpo.checkpoints import ResumableTrainer
from lit_longpo.objectives import DPO, IPO, LOGO, ORPO, SFT, LongPO, SimPO, SoLoPO
from lit_longpo.policy import PolicyConfig
from lit_longpo.training import preference_signal
from lit_longpo.training.preference_signal import PreferenceSignal

SAID = "the untrained policy prefers the chosen answer in {} of the first {} pairs"
ALONE = SimpleNamespace(is_global_zero=True, loggers=[], logger=None)


def watched(*rows, by_log_probs=False, trainer=ALONE):
    signal = PreferenceSignal(Views(reference=(View("long", "chosen"),) if by_log_probs else ()))
    looked = []
    for values in rows:
        signal.add(values)
        looked.append(signal.look(trainer))
    return looked


def test_it_is_said_once_enough_pairs_are_there(caplog):
    assert watched(row_metrics(*[1] * 16), row_metrics(*[1] * 15), row_metrics(1, -1)) == [False, False, True]
    assert SAID.format("97%", 33) in caplog.text
    assert "python -m lit_longpo build --config configs/build/solopo_chat.yaml" in caplog.text


def test_two_wrong_pairs_are_a_signal_and_an_equal_one_is_wrong(caplog):
    assert watched(row_metrics(*[1] * 30, 0, -1)) == [True]
    assert not caplog.text


def test_with_a_reference_log_probabilities_are_compared(caplog):
    """The rewards of a policy that is its reference are all 0, and so are their margins."""
    untrained = {**row_metrics(*[1] * 32), "rewards/margins": torch.zeros(32)}
    assert watched(untrained) == [True]
    assert not caplog.text
    assert watched(untrained, by_log_probs=True) == [True]
    assert SAID.format("100%", 32) in caplog.text


def test_objectives_without_rejected_answers_say_nothing(caplog):
    assert watched({"nll": torch.zeros(64)}, {"nll": torch.zeros(64)}) == [False, False]
    assert not caplog.text


def test_one_process_speaks(caplog):
    assert watched(row_metrics(*[1] * 32), trainer=SimpleNamespace(is_global_zero=False)) == [True]
    assert not caplog.text


@pytest.mark.parametrize(("module", "aligns"), [(SoLoPO(), True), (ORPO(), False), (LongPO(), False)])
def test_easy_short_pairs_do_not_hinder_what_is_aligned_with_the_long_context(module, aligns, caplog):
    signal = PreferenceSignal(module.views)
    signal.add(row_metrics(*[1] * 32))
    assert signal.look(ALONE)
    assert ("aligning the other context with this one still can" in caplog.text) is aligns
    assert "preferring it more teaches little" in caplog.text


OBJECTIVES = [
    DPO(), IPO(), SimPO(), ORPO(), SimPO(context="short"), SoLoPO(), SoLoPO(base=DPO()), LongPO(nll="answer"),
    LOGO(num_rejected=2), SFT(),
]  # fmt: skip


@pytest.mark.parametrize("module", OBJECTIVES, ids=lambda module: type(module).__name__)
def test_every_objective_with_pairs_is_watched(module):
    """20 pairs of equal lengths, the chosen answer likelier in 15: what every objective's measure has to find."""
    rejected = [(view, m) for view in module.views.policy if view.role == "rejected"
                for m in range(module.views.num_rejected)]  # fmt: skip
    chosen = [(view, 0) for view in module.views.policy if view.role == "chosen"]
    slots = tuple(Slot(n, view.context, view.role, index) for n in range(20) for view, index in (*chosen, *rejected))
    sums = torch.tensor([(-3.0 if slot.example % 4 else -7.0) if slot.role == "chosen" else -5.0 for slot in slots])
    scores = Scores(sums, torch.full_like(sums, 4.0), slots)
    signal = PreferenceSignal(module.views)
    reference = None
    if module.views.reference:
        kept = [i for i, slot in enumerate(slots) for v in module.views.reference if v.role == slot.role]
        contexts = {view.role: view.context for view in module.views.reference}
        moved = tuple(Slot(slots[i].example, contexts[slots[i].role], slots[i].role, slots[i].index) for i in kept)
        same = set(module.views.reference) == set(module.views.policy)
        reference = scores if same else Scores(sums[kept], scores.counts[kept], moved)
    signal.add(module.loss(scores, reference)[1])
    if isinstance(module, SFT):
        assert not signal._margins
    else:
        assert signal.difficulty().ranked_right == 0.75
        short = isinstance(module, SoLoPO) or getattr(module, "context", "") == "short"
        assert signal.difficulty().measure.endswith("short context" if short else "long context")


@pytest.mark.parametrize(("objective", "tracked"), [(SimPO, False), (DPO, False), (SimPO, True)])
def test_a_run_reports_what_plain_forwards_say(objective, tracked, policy_folder, tmp_path, caplog, monkeypatch):
    monkeypatch.setattr(preference_signal, "NUM_PAIRS", 4)
    module = objective(policy=PolicyConfig(source=str(policy_folder)))
    logger = Tracked(str(tmp_path), "run") if tracked else TensorBoardLogger(tmp_path, name="project", version="run")
    trainer = ResumableTrainer(
        max_steps=3, accelerator="cpu", logger=logger, enable_progress_bar=False, enable_model_summary=False,
        use_distributed_sampler=False, enable_checkpointing=False, default_root_dir=tmp_path, num_sanity_val_steps=2,
        log_every_n_steps=1,
    )  # fmt: skip
    report = tmp_path / "project" / "run" / "data_report.json"
    report.parent.mkdir(parents=True)
    report.write_text('{"documents": {}}')
    trainer.fit(module, datamodule=RandomPairs(module.views))
    found = json.loads(report.read_text())
    assert found["documents"] == {}
    assert found["difficulty"]["pairs"] == 6  # four of the validation, and the first row of two
    assert found["difficulty"]["within_steps"] == 0
    fresh = AutoModelForCausalLM.from_pretrained(policy_folder)
    right = [by_plain_forward(fresh, number, per_token=objective is SimPO) > 0 for number in (0, 1, 2, 3, 0, 1)]
    assert found["difficulty"]["ranked_right"] == pytest.approx(sum(right) / 6)
    assert (f"{SAID.format('100%', 6)}" in caplog.text) == all(right)


def by_plain_forward(model, number, *, per_token):
    """By how much the chosen answer of a record is likelier."""
    (group,) = (g for g in groups_for(number, SimPO().views.policy))
    totals = {}
    for response in group.responses:
        ids = torch.tensor([[*group.prompt_ids, *response.token_ids]])
        with torch.no_grad():
            log_probs = model(input_ids=ids).logits.log_softmax(-1)[0, len(group.prompt_ids) - 1 : -1]
        picked = log_probs.gather(1, ids[0, len(group.prompt_ids) :, None])
        totals[response.role] = (picked.mean() if per_token else picked.sum()).item()
    return totals["chosen"] - totals["rejected"]
