"""What transformers keeps in fp32 stays so under bf16-true (sglang#37133, transformers#25681, gpt-neox#1003)."""

from functools import partial

import pytest
import torch
from lightning.pytorch import Trainer
from support.preference_data import RandomPairs
from support.quiet_cpu import QUIET_CPU
from support.tiny_models import tiny_config
from support.word_tokenizer import word_tokenizer
from transformers import AutoModelForCausalLM

from lit_longpo.engine import base_model
from lit_longpo.errors import InputError
from lit_longpo.objectives import DPO, SFT
from lit_longpo.optimization import FusedAdamW, Optimization
from lit_longpo.policy import LoRA, PolicyConfig
from lit_longpo.policy.rope import RoPE
from lit_longpo.policy.weights.full_precision import FullPrecision


def trained(folder, tmp_path, objective=SFT, **policy):
    optimization = Optimization(partial(FusedAdamW, lr=1e-9), schedule="constant", warmup_fraction=0.0)
    policy = PolicyConfig(source=str(folder), dtype="bfloat16", **policy)
    module = objective(policy=policy, optimization=optimization)
    trainer = Trainer(
        max_steps=1,
        **QUIET_CPU,
        precision="bf16-true",
        enable_checkpointing=False,
        use_distributed_sampler=False,
        limit_val_batches=0,
        default_root_dir=tmp_path,
    )
    trainer.fit(module, datamodule=RandomPairs(module.views))
    return module


def saved(model, folder):
    model.save_pretrained(folder)
    word_tokenizer().save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def routed(tmp_path_factory):
    """A DeepSeek-V3 whose experts are chosen by biases that bf16 cannot tell apart, as in GLM-5.2."""
    model = AutoModelForCausalLM.from_config(tiny_config("DeepseekV3", n_routed_experts=8), dtype=torch.bfloat16)
    for name, buffer in model.named_buffers():
        if name.endswith("e_score_correction_bias"):
            buffer.data = 34.5 + 0.05 * torch.randn(8)
    return saved(model, tmp_path_factory.mktemp("routed"))


ROUTERS = ["*.mlp.gate.weight"]  # kept in fp32, too, since transformers 5.24: under bf16-true they cannot be trained


@pytest.mark.parametrize("lora", [None, LoRA(r=2)], ids=["", "lora"])
def test_biases_that_choose_experts_are_not_rounded(lora, routed, tmp_path):
    plain = AutoModelForCausalLM.from_pretrained(routed, dtype=torch.bfloat16).eval()
    module = trained(routed, tmp_path, **({"lora": lora} if lora else {"freeze": ROUTERS}))
    base_model(module.model).set_attn_implementation("sdpa")
    ids = torch.randint(3, 96, (1, 24))
    with torch.no_grad():
        torch.testing.assert_close(module.model.eval()(input_ids=ids).logits, plain(input_ids=ids).logits)
    named = dict(module.model.named_buffers())
    biases = [buffer for name, buffer in named.items() if name.endswith("e_score_correction_bias")]
    assert biases
    assert {bias.dtype for bias in biases} == {torch.float32}


def test_a_reference_chooses_the_policys_experts(routed, tmp_path):
    module = trained(routed, tmp_path, objective=DPO, freeze=ROUTERS)
    assert float(module.step_loss) == pytest.approx(0.6931, abs=1e-4)  # log 2: policy and reference agree


@pytest.mark.parametrize("widened", [False, True], ids=["", "fp32 again"])
@pytest.mark.parametrize("rope", [None, RoPE(theta=1e6)], ids=["", "changed"])
def test_rotary_frequencies_are_exact_again(rope, widened, policy_folder):
    """Also where DeepSpeed has cast a tensor to bf16 and back, which its dtype does not tell."""
    model = PolicyConfig(source=str(policy_folder), rope=rope).load()
    exact, kept = model.model.rotary_emb.inv_freq.clone(), FullPrecision(model)
    model.to(torch.bfloat16)
    if widened:
        model.model.rotary_emb.float()
    assert not torch.equal(model.model.rotary_emb.inv_freq, exact)
    kept.restore(model)
    assert model.model.rotary_emb.inv_freq.dtype == torch.float32
    assert torch.equal(model.model.rotary_emb.inv_freq, exact)
    assert model.lm_head.weight.dtype == torch.bfloat16


ERNIE = {"moe_num_experts": 4, "moe_k": 2, "moe_intermediate_size": 16, "moe_layer_start_index": 0}


def test_weights_that_stay_in_fp32_are_put_back_or_refused(tmp_path):
    """Routers of Ernie 4.5 are such parameters."""
    model = AutoModelForCausalLM.from_config(tiny_config("Ernie4_5_Moe", **ERNIE), dtype=torch.bfloat16)
    source = saved(model, tmp_path / "model")
    plain = AutoModelForCausalLM.from_pretrained(source, dtype=torch.bfloat16).eval()
    assert torch.float32 in {parameter.dtype for parameter in plain.parameters()}
    with pytest.raises(InputError, match=r"^expected `trainer\.precision: 32-true`.*got bf16-true, which rounds"):
        trained(source, tmp_path)
    module, ids = trained(source, tmp_path, lora=LoRA(r=2, target_modules=["q_proj"])), torch.randint(3, 96, (1, 24))
    base_model(module.model).set_attn_implementation("sdpa")
    with torch.no_grad():
        torch.testing.assert_close(module.model.eval()(input_ids=ids).logits, plain(input_ids=ids).logits)
