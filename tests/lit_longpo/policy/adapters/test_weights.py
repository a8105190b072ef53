"""Adapters under names that peft reads as others."""

import pytest
import torch
from support.groups import random_groups
from support.tiny_models import tiny_model
from support.word_tokenizer import word_tokenizer

from lit_longpo.engine import pack, score
from lit_longpo.export import save_policy
from lit_longpo.policy import LoRA, PolicyConfig, PromptFormat, PromptTemplate

ROW = pack(random_groups([(9, [2, 3])]))
LAGUNA = {
    "head_dim": 8,
    "num_attention_heads_per_layer": [4, 4],
    "layer_types": ["full_attention"] * 2,
    "mlp_layer_types": ["dense", "sparse"],
    "num_experts": 4,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 16,
    "shared_expert_intermediate_size": 16,
}


@pytest.mark.parametrize("how", ["continue", "merge"])
def test_adapters_that_peft_renames_are_read(how, tmp_path, caplog):
    """Laguna's `shared_experts` are `shared_expert` in its files; peft renamed them twice and left them as drawn."""
    tiny_model("Laguna", **LAGUNA).save_pretrained(tmp_path / "base")
    model = PolicyConfig(str(tmp_path / "base"), lora=LoRA(r=2, alpha=4)).load()
    torch.manual_seed(1)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.normal_(std=0.1) if "lora_B" in name else None
    save_policy(model, PromptFormat(word_tokenizer(), PromptTemplate()), tmp_path / "a", "")
    assert "peft alone leaves out 6 of these adapters' tensors" in caplog.text
    read = PolicyConfig(str(tmp_path / "a"), adapters=how).load().eval()
    torch.testing.assert_close(score(read, ROW).sums, score(model.eval(), ROW).sums, rtol=1e-4, atol=1e-4)
