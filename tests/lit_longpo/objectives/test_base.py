"""The LightningModule end to end on random tokens, one optimizer, real Trainer."""

import math
from functools import partial

import pytest
import torch
from lightning.pytorch import Trainer, seed_everything
from lightning.pytorch.callbacks import Callback, ModelCheckpoint
from support.losses import Losses
from support.preference_data import RandomPairs, emphasis_of, groups_for
from support.quiet_cpu import QUIET_CPU
from support.tiny_hybrids import ALONE, tiny_hybrid
from support.tiny_models import tiny_model
from support.word_tokenizer import word_tokenizer
from torch.nn.functional import logsigmoid
from torch.utils.data import DataLoader

from lit_longpo.batch import PreferenceBatch
from lit_longpo.checkpoints import ResumableTrainer
from lit_longpo.engine import pack
from lit_longpo.errors import InputError
from lit_longpo.objectives import DPO, IPO, LOGO, ORPO, SFT, LongPO, SimPO, SoLoPO
from lit_longpo.optimization import FusedAdamW, Optimization
from lit_longpo.policy import LoRA, PolicyConfig, ReferenceConfig, RoPE


def fast(lr=2e-3):
    return Optimization(lambda params: FusedAdamW(params, lr=lr), schedule="constant", warmup_fraction=0.0)


def run(module, folder, *, steps=4, callbacks=(), ckpt_path=None, trainer=Trainer, **options):
    losses = Losses()
    seed_everything(0, verbose=False)
    trainer = trainer(
        max_steps=steps,
        **QUIET_CPU,
        use_distributed_sampler=False,
        num_sanity_val_steps=0,
        default_root_dir=folder,
        enable_checkpointing=bool(callbacks),
        callbacks=[losses, *callbacks],
        **options,
    )
    trainer.fit(module, datamodule=RandomPairs(module.views), ckpt_path=ckpt_path)
    return losses.values, trainer


OBJECTIVES = {
    "sft": SFT,
    "dpo": DPO,
    "ipo": IPO,
    "simpo": SimPO,
    "orpo": ORPO,
    # A small alpha for DPO: its alignment is zero before the first step, so any step raises that part.
    "solopo-dpo": partial(SoLoPO, base=DPO(), alpha=0.1),
    "solopo-ipo": partial(SoLoPO, base=IPO(), alpha=0.1),
    "solopo-simpo": partial(SoLoPO, base=SimPO()),
    "solopo-orpo": partial(SoLoPO, base=ORPO()),
    "longpo": partial(LongPO, nll="answer", pref_weight=1.0),
    "logo": partial(LOGO, num_rejected=1),
}


@pytest.mark.parametrize("name", OBJECTIVES)
def test_every_objective_trains_and_logs(name, policy_folder, tmp_path):
    module = OBJECTIVES[name](policy=PolicyConfig(source=str(policy_folder)), optimization=fast())
    losses, trainer = run(module, tmp_path, steps=16, max_epochs=4)
    assert len(losses) == 16
    assert sum(losses[-4:]) < sum(losses[:4])  # the same four rows in the first and the last epoch
    metrics = trainer.callback_metrics
    assert {"train/loss", "val/loss", "train/nll"} <= metrics.keys()
    if name != "sft":
        assert 0 <= metrics["train/rewards/accuracies"] <= 1
        assert {"train/rewards/margins", "train/logps/chosen", "train/logps/rejected"} <= metrics.keys()
    assert ("train/solo_ra" in metrics) == name.startswith("solopo")


def test_two_runs_with_one_seed_give_the_same_losses(policy_folder, tmp_path):
    runs = [
        run(SoLoPO(policy=PolicyConfig(source=str(policy_folder)), optimization=fast()), tmp_path)[0] for _ in range(2)
    ]
    assert runs[0] == runs[1]


def test_the_first_step_of_solopo_on_dpo_has_the_base_losss_gradient(policy_folder, tmp_path):
    """Policy and reference are one to the last bit, so |r| is 0 there and its gradient 0, not a sign of rounding."""

    class Gradients(Callback):
        def on_before_optimizer_step(self, trainer, module, optimizer):
            self.found = {n: p.grad.clone() for n, p in module.named_parameters() if p.grad is not None}

    found = []
    for alpha in (0.0, 3.0):
        policy, watch = PolicyConfig(source=str(policy_folder), lora=LoRA(r=2, use_dora=True)), Gradients()
        module = SoLoPO(base=DPO(), alpha=alpha, policy=policy, optimization=fast())
        _, trainer = run(module, tmp_path / str(alpha), steps=1, callbacks=[watch], limit_val_batches=0)
        assert trainer.callback_metrics["train/solo_ra"] == 0
        found.append(watch.found)
    torch.testing.assert_close(found[1], found[0], rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize(("accumulate", "kept"), [(1, [False] * 4), (2, [False, True, False, True])])
def test_no_gradients_of_the_step_before_lie_beside_a_forward(accumulate, kept, policy_folder, tmp_path):
    class Watch(Callback):
        def __init__(self):
            self.held = []

        def on_train_batch_start(self, trainer, module, batch, batch_idx):
            self.held.append(any(parameter.grad is not None for parameter in module.parameters()))

    watch = Watch()
    module = DPO(policy=PolicyConfig(source=str(policy_folder)), optimization=fast())
    run(module, tmp_path, steps=4 // accumulate, callbacks=[watch], accumulate_grad_batches=accumulate)
    assert watch.held == kept


def test_a_validation_counts_every_example_once_however_rows_are_filled(policy_folder):
    """Four examples in one row, or three and one: every mean is that of the four."""
    module = SimPO(policy=PolicyConfig(source=str(policy_folder)))

    def validated(*rows):
        groups = [[group for example in row for group in groups_for(example, module.views.policy)] for row in rows]
        loader = DataLoader([PreferenceBatch(pack(row)) for row in groups], batch_size=None)
        trainer = Trainer(accelerator="cpu", logger=False, enable_progress_bar=False, enable_checkpointing=False)
        [metrics] = trainer.validate(module, loader, verbose=False)
        return metrics

    whole, uneven = validated((0, 1, 2, 3)), validated((0, 1, 2), (3,))
    assert {"val/loss", "val/nll", "val/rewards/margins"} <= whole.keys()
    assert uneven == pytest.approx(whole, rel=1e-4)


def test_a_weight_multiplies_its_examples_loss_and_the_mean_stays_over_their_number(policy_folder):
    """However rows are filled; against the four losses of unweighted rows of one example."""
    module = SimPO(policy=PolicyConfig(source=str(policy_folder)))

    def validated(*rows, emphasis):
        batches = []
        for row in rows:
            packed = pack([group for example in row for group in groups_for(example, module.views.policy)])
            batches.append(PreferenceBatch(packed, None, *(emphasis_of(packed.examples) if emphasis else ())))
        trainer = Trainer(accelerator="cpu", logger=False, enable_progress_bar=False, enable_checkpointing=False)
        [metrics] = trainer.validate(module, DataLoader(batches, batch_size=None), verbose=False)
        return metrics

    weights, margins = (numbers.tolist() for numbers in emphasis_of([f"record-{n}" for n in range(4)]))
    # SimPO's loss is softplus(-z): with z known, a margin is subtracted by hand.
    logits = [math.log(1 / math.expm1(validated((n,), emphasis=False)["val/loss"])) for n in range(4)]
    expected = sum(w * math.log1p(math.exp(m - z)) for w, m, z in zip(weights, margins, logits, strict=True)) / 4
    for rows in [((0, 1, 2, 3),), ((0, 1, 2), (3,))]:
        assert validated(*rows, emphasis=True)["val/loss"] == pytest.approx(expected, rel=1e-4)


def test_a_weight_and_a_margin_move_the_gradient(policy_folder, tmp_path):
    """Two steps alike but for the numbers: plain SGD moves the weights by another amount."""
    moved = []
    for emphasis in (False, True):
        seed_everything(0, verbose=False)
        sgd = Optimization(partial(torch.optim.SGD, lr=0.1), schedule="constant", warmup_fraction=0.0)
        module = SimPO(policy=PolicyConfig(source=str(policy_folder)), optimization=sgd)
        trainer = Trainer(
            max_steps=1, accelerator="cpu", logger=False, enable_progress_bar=False, enable_checkpointing=False,
            num_sanity_val_steps=0, limit_val_batches=0, default_root_dir=tmp_path,
        )  # fmt: skip
        trainer.fit(module, datamodule=RandomPairs(module.views, 2, emphasis=emphasis))
        moved.append(torch.cat([parameter.detach().flatten() for parameter in module.model.parameters()]))
    assert not torch.allclose(*moved, atol=1e-6)


@pytest.mark.parametrize("lora", [None, LoRA(r=2)])
@pytest.mark.parametrize("mode", ["cached", "online"])
def test_dpo_starts_at_log_two_and_cached_equals_online(policy_folder, tmp_path, lora, mode):
    policy = PolicyConfig(source=str(policy_folder), lora=lora)
    losses, _ = run(DPO(policy=policy, optimization=fast(), reference=ReferenceConfig(mode)), tmp_path)
    assert losses[0] == pytest.approx(-float(logsigmoid(torch.zeros(()))), abs=1e-5)
    online, _ = run(DPO(policy=policy, optimization=fast(), reference=ReferenceConfig("online")), tmp_path)
    assert losses == pytest.approx(online, rel=1e-4)


def test_an_objective_without_reference_pays_nothing_for_it(policy_folder, tmp_path, monkeypatch):
    for name in ("model_fingerprint", "fill_cache", "reference_mode"):
        monkeypatch.setattr(
            f"lit_longpo.policy.reference.reference.{name}", lambda *_: pytest.fail("asked for a reference")
        )
    policy = PolicyConfig(source=str(policy_folder))
    for objective in (SFT, ORPO, SoLoPO):
        run(objective(policy=policy, optimization=fast()), tmp_path, steps=1)
    assert not (tmp_path / "reference_cache").exists()


def test_the_cache_is_shared_with_the_next_run(policy_folder, tmp_path):
    for _ in range(2):
        run(DPO(policy=PolicyConfig(source=str(policy_folder)), optimization=fast()), tmp_path)
    assert len(list((tmp_path / "reference_cache").rglob("*.safetensors"))) == 1


@pytest.mark.parametrize("lora", [None, LoRA(r=2)])
@pytest.mark.parametrize("keep_cache", [True, False])
def test_resuming_continues_with_the_same_losses_and_reference(policy_folder, tmp_path, lora, keep_cache):
    def module():
        return DPO(policy=PolicyConfig(source=str(policy_folder), lora=lora), optimization=fast())

    save = ModelCheckpoint(tmp_path / "checkpoints", every_n_train_steps=2, save_top_k=-1, filename="{step}")
    whole, _ = run(module(), tmp_path, steps=4, callbacks=[save])
    if not keep_cache:  # the reference must come from the initial weights, not from the checkpoint's
        for path in (tmp_path / "reference_cache").rglob("*.safetensors"):
            path.unlink()
    resumed, _ = run(module(), tmp_path, steps=4, ckpt_path=tmp_path / "checkpoints" / "step=2.ckpt", max_epochs=1)
    assert resumed == pytest.approx(whole[2:], rel=1e-5)


def test_with_adapters_a_checkpoint_holds_adapters_only(policy_folder, tmp_path):
    policy = PolicyConfig(source=str(policy_folder), lora=LoRA(r=2))
    save = ModelCheckpoint(tmp_path, filename="last", every_n_train_steps=2)
    run(ORPO(policy=policy, optimization=fast()), tmp_path, steps=2, callbacks=[save])
    checkpoint = torch.load(tmp_path / "last.ckpt", weights_only=True)
    assert checkpoint["state_dict"]
    assert all("lora_" in name for name in checkpoint["state_dict"])
    other = ORPO(policy=PolicyConfig(source=str(policy_folder), lora=LoRA(r=2, target_modules=["lm_head_not"])))
    other.policy.lora.target_modules = [
        "q_proj",
        "k_proj",
        "v_proj",
        "o_proj",
        "gate_proj",
        "up_proj",
        "down_proj",
    ]
    other.configure_model()
    del checkpoint["state_dict"][next(iter(checkpoint["state_dict"]))]
    with pytest.raises(ValueError, match="lacks 1 trained tensors"):
        other.on_load_checkpoint(checkpoint)


def test_the_schedule_warms_up_by_fraction_of_steps():
    parameter = torch.nn.Parameter(torch.zeros(1))
    optimizer, schedule = Optimization(lambda p: FusedAdamW(p, lr=1.0), "linear", 0.2).build([parameter], 10)
    rates = []
    for _ in range(10):
        rates.append(schedule.get_last_lr()[0])
        optimizer.step()
        schedule.step()
    assert rates == pytest.approx([0.0, 0.5, 1.0, 0.875, 0.75, 0.625, 0.5, 0.375, 0.25, 0.125])
    with pytest.raises(ValueError, match="warmup_fraction"):
        Optimization(warmup_fraction=1.5)


def test_adamw_is_fused_where_it_can_be():
    assert FusedAdamW([torch.nn.Parameter(torch.zeros(1))]).defaults["fused"]
    assert not FusedAdamW([torch.nn.Parameter(torch.zeros(1, dtype=torch.complex64))]).defaults["fused"]


@pytest.mark.parametrize("trainer", [Trainer, ResumableTrainer])
def test_contexts_beyond_the_window_are_refused(trainer, policy_folder, tmp_path, monkeypatch):
    """By the command line's trainer before the model is loaded, unless it may have a checkpoint to go on from."""
    monkeypatch.setattr(RandomPairs, "reach", 513, raising=False)
    monkeypatch.setattr(RandomPairs, "true_reach", 513, raising=False)
    if trainer is ResumableTrainer:
        monkeypatch.setattr(PolicyConfig, "load", lambda self: pytest.fail("the model was loaded"))
    module = ORPO(policy=PolicyConfig(source=str(policy_folder)), optimization=fast())
    with pytest.raises(InputError, match=r"at most 512 positions.*, got 513; .*--policy\.rope\.max_length 513 "):
        run(module, tmp_path, steps=2, trainer=trainer)


def test_contexts_beyond_the_window_are_read_where_the_user_says_so(policy_folder, tmp_path, caplog, monkeypatch):
    """What was said stays said, too: a run goes on with a word, as its checkpoint may be of an older version."""
    monkeypatch.setattr(RandomPairs, "reach", 513, raising=False)
    monkeypatch.setattr(RandomPairs, "true_reach", 513, raising=False)
    said = ORPO(policy=PolicyConfig(source=str(policy_folder), rope=RoPE(max_length=513)), optimization=fast())
    run(said, tmp_path, steps=1, callbacks=[ModelCheckpoint(tmp_path, "one")])
    assert "the model was made for" not in caplog.text
    unsaid = ORPO(policy=PolicyConfig(source=str(policy_folder)), optimization=fast())
    run(unsaid, tmp_path, steps=2, ckpt_path=tmp_path / "one.ckpt")
    assert "positions reach 513, the model was made for 512" in caplog.text


def routed(folder, router_loss, name):
    model = tiny_hybrid(name, num_local_experts=4) if name in ALONE else tiny_model(name)
    model.save_pretrained(folder)
    word_tokenizer().save_pretrained(folder)
    optimization = Optimization(lambda parameters: FusedAdamW(parameters, lr=1e-9), router_loss=router_loss)
    return DPO(policy=PolicyConfig(source=str(folder)), optimization=optimization)


@pytest.mark.parametrize("name", ["Mixtral", pytest.param("MiniMax", marks=pytest.mark.slow)])
def test_the_router_loss_is_added_and_logged(name, tmp_path):
    """By the coefficient; "model" is the configuration's. In packed rows and for one sequence at a time."""
    metrics = {}
    for setting in (0.0, 0.5, "model"):
        module = routed(tmp_path, setting, name)
        found = run(module, tmp_path)[1].callback_metrics
        metrics[setting] = {name: value.item() for name, value in found.items()}
    coefficient = module.model.config.router_aux_loss_coef
    loss = metrics[0.5]["train/router_loss"]
    assert "train/router_loss" not in metrics[0.0]
    assert loss > 1.0
    for stage in ("train", "val"):
        for setting, factor in ((0.5, 0.5), ("model", coefficient)):
            added = metrics[setting][f"{stage}/loss"] - metrics[0.0][f"{stage}/loss"]
            assert added == pytest.approx(factor * metrics[setting][f"{stage}/router_loss"], rel=1e-2)


def test_a_router_loss_without_routers_is_refused_before_loading(policy_folder, monkeypatch):
    monkeypatch.setattr(PolicyConfig, "load", lambda self: pytest.fail("loaded"))
    module = DPO(policy=PolicyConfig(source=str(policy_folder)), optimization=Optimization(router_loss=0.1))
    with pytest.raises(InputError, match=r"has no routers \(LlamaConfig\); type --optimization.router_loss 0"):
        module.configure_model()


def test_an_objective_of_ones_own_may_call_an_argument_num_steps():
    """A property of that name in the base class had no setter."""

    class Annealed(DPO):
        def __init__(self, num_steps: int = 3) -> None:
            super().__init__()
            self.num_steps = num_steps

    assert Annealed().num_steps == 3
