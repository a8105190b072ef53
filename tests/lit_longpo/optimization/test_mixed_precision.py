"""Training under mixed precision beside the loop of torch's own recipe, with every kind of optimizer."""

import pytest
import torch
from lightning.pytorch import Trainer, seed_everything
from lightning.pytorch.plugins import MixedPrecision
from support.command_line import CONFIGS
from support.preference_data import RandomPairs
from support.quiet_cpu import QUIET_CPU
from support.ranks import run_command

from lit_longpo.engine import score
from lit_longpo.objectives import ORPO
from lit_longpo.optimization import FusedAdamW, Optimization
from lit_longpo.policy import LoRA, PolicyConfig

CLIP = 0.05  # below every gradient's norm
STEPS = 4
OPTIMIZERS = {
    "FusedAdamW": lambda params: FusedAdamW(params, lr=1e-2),
    "AdamW": lambda params: torch.optim.AdamW(params, lr=1e-2, weight_decay=0.0, fused=True),
    "SGD": lambda params: torch.optim.SGD(params, lr=1.0, fused=True),
}


def module_for(folder, optimizer):
    steady = Optimization(OPTIMIZERS[optimizer], schedule="constant", warmup_fraction=0.0)
    return ORPO(policy=PolicyConfig(source=str(folder)), optimization=steady)


def weights_of(module):
    return {name: parameter.detach().clone() for name, parameter in module.model.named_parameters()}


def trained(module, *callbacks, **options):
    seed_everything(0, verbose=False)
    trainer = Trainer(
        max_steps=STEPS,
        **QUIET_CPU,
        enable_checkpointing=False,
        num_sanity_val_steps=0,
        gradient_clip_val=CLIP,
        callbacks=list(callbacks),
        **options,
    )
    trainer.fit(module, datamodule=RandomPairs(module.views))
    return weights_of(module)


def plainly_trained(module, optimizer, dtype, scaler):
    """The loop of torch's own recipe: unscale, clip, step. Also how many steps the scaler left out."""
    module.configure_model()
    stepper, skipped = OPTIMIZERS[optimizer](list(module.model.parameters())), 0
    stepper._step_supports_amp_scaling = False
    for batch in list(RandomPairs(module.views).train_dataloader())[:STEPS]:
        with torch.autocast("cpu", dtype=dtype, cache_enabled=False):
            losses, _ = module.loss(score(module.model, batch.policy), None)
        stepper.zero_grad()
        scaler.scale(losses.mean()).backward()
        scaler.unscale_(stepper)
        skipped += not torch.isfinite(torch.nn.utils.clip_grad_norm_(module.model.parameters(), CLIP))
        scaler.step(stepper)
        scaler.update()
    return weights_of(module), skipped


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("precision", ["bf16-mixed", "16-mixed"])
def test_mixed_precision_clips_unscaled_gradients_whatever_the_optimizer(precision, optimizer, policy_folder):
    half, dtype = precision == "16-mixed", torch.float16 if precision == "16-mixed" else torch.bfloat16
    scalers = [torch.amp.GradScaler("cpu", init_scale=2.0**10, enabled=half) for _ in range(2)]
    plugin = MixedPrecision(precision, "cpu", scaler=scalers[0] if half else None)
    actual = trained(module_for(policy_folder, optimizer), plugins=plugin)
    expected, skipped = plainly_trained(module_for(policy_folder, optimizer), optimizer, dtype, scalers[1])
    assert skipped == 0
    for name, weight in expected.items():
        torch.testing.assert_close(actual[name], weight, rtol=1e-5, atol=1e-6)


# On a CPU Lightning takes bf16 for both.
@pytest.mark.parametrize("precision", ["bf16-mixed", pytest.param("16-mixed", marks=pytest.mark.slow)])
def test_mixed_precision_trains_from_the_command_line(precision, tmp_path):
    data = ("--data.num_train", 8, "--data.num_val", 3, "--data.short_words", 16, "--data.long_words", "[24, 48]")
    trainer = ("--trainer.precision", precision, "--trainer.max_steps", 2, "--trainer.max_epochs", 4)
    callbacks = ("--trainer.callbacks", "[NonFiniteGuard]", "--trainer.default_root_dir", tmp_path)
    printed = run_command("fit", "--config", CONFIGS / "solopo.yaml", *data, *trainer, *callbacks)
    assert "`max_steps=2` reached" in printed


def test_adapters_of_half_weights_train_under_a_loss_scale(policy_folder):
    adapters = PolicyConfig(source=str(policy_folder), dtype="float16", lora=LoRA(r=2))
    module = ORPO(policy=adapters, optimization=Optimization(OPTIMIZERS["FusedAdamW"], "constant", 0.0))
    plugin = MixedPrecision("16-mixed", "cpu", scaler=torch.amp.GradScaler("cpu", init_scale=2.0**8))
    trained_to = trained(module, plugins=plugin)
    assert plugin.scaler.get_scale() == 2.0**8  # no step was left out
    lora_b = [value for name, value in trained_to.items() if "lora_B" in name]
    assert all(value.dtype == torch.float32 and value.abs().max() > 0 for value in lora_b)
