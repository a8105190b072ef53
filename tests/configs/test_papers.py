"""Paper-scale recipes: true architectures on the meta device, and what `plan` says about 80 GiB devices."""

from functools import cache

import pytest
import torch
from support.command_line import CONFIGS

from lit_longpo.planning.command import plan_for
from lit_longpo.planning.plan import GIB

PAPER = CONFIGS / "paper"
# recipe -> (what is typed beside it, parameters of the true model)
RECIPES = {
    "solopo_qwen2.5_7b": (("--trainer.devices", 8), 7_615_616_512),
}
SLOW = {
    "logo_llama3_8b_64k": (("--trainer.devices", 8), 8_030_261_248),
    "longpo_mistral7b_128k": (("--trainer.devices", 8), 7_241_732_096),
    "longpo_qwen2.5_7b_128k": (("--trainer.devices", 8), 7_615_616_512),
    "longpo_mistral7b_256k": (
        ("--trainer.devices", 8, "--trainer.num_nodes", 2, "--sequence_parallel", 2, "--shape", "mistral_7b_v0.2"),
        7_241_732_096,
    ),
    "longpo_mistral7b_512k": (
        ("--trainer.devices", 8, "--trainer.num_nodes", 2, "--sequence_parallel", 4, "--shape", "mistral_7b_v0.2"),
        7_241_732_096,
    ),
}


@cache
def checked(name):
    arguments, parameters = (RECIPES | SLOW)[name]
    made = plan_for(["--config", str(PAPER / f"{name}.yaml"), *map(str, arguments), "--device_memory_gib", "80"])
    adapters = made.sizes.total - parameters
    assert adapters == 0 if made.configuration.policy.lora is None else 0 < adapters < 0.02 * parameters
    run = made.configuration
    assert (run.dtype, run.flash, run.sharding.stage) == (torch.bfloat16, True, 3)
    assert not [warning for warning in made.warnings if "SavePretrained" in warning]
    peak, flops = made.memory[made.mode].peak / GIB, made.rows_per_step * made.flops.model
    assert made.fits, peak
    counted = f"{peak:.2f} GiB of 80 a device, {made.tokens_per_step:,} tokens and {flops:.2e} FLOPs a step"
    assert counted in (PAPER / f"{name}.yaml").read_text()
    assert made.sizes.num_trained * 2 == made.sizes.trained_bytes
    return made


def test_every_recipe_is_planned():
    assert {path.stem for path in PAPER.glob("*.yaml")} == RECIPES.keys() | SLOW.keys()


@pytest.mark.slow
@pytest.mark.parametrize("name", RECIPES)
def test_the_papers_devices_suffice(name):
    checked(name)


@pytest.mark.slow
@pytest.mark.parametrize("name", SLOW)
def test_the_longer_rounds_fit_with_sequence_parallelism(name):
    checked(name)


@pytest.mark.slow
def test_128k_tokens_fit_with_layers_in_tiles():
    """One pair of the longest prompt; further turns would add their answers, up to the row's 135,168."""
    made = checked("longpo_mistral7b_128k")
    assert made.row.num_tokens == 131_072 + made.row.response_tokens == 131_328
    assert made.tokens_per_step == 8 * 131_328
    assert made.memory["keep_attention"].peak > 80 * GIB > made.memory["recompute"].peak > 50 * GIB
    assert made.memory["offload"].peak < 32 * GIB < made.memory["offload"].host
    assert made.warnings == []
