"""Folders of adapters that plain peft writes, and what plain transformers with peft says they are worth."""

import json

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from support.groups import random_groups
from support.padded_rows import plain_sums
from transformers import AutoModelForCausalLM

from lit_longpo.engine import pack
from lit_longpo.policy import PolicyConfig

[GROUP] = random_groups([(9, [2, 3])])
ROW = pack([GROUP])
TARGETS = ["q_proj", "v_proj"]


def plain(base):
    return AutoModelForCausalLM.from_pretrained(base, attn_implementation="eager", dtype=torch.float32)


def adapters(base, folder, *, config=None, **options):
    """A trained-looking folder of peft's, and what plain peft says it is worth."""
    torch.manual_seed(1)
    config = config or LoraConfig(**{"r": 4, "lora_alpha": 8, "target_modules": TARGETS, **options})
    model = get_peft_model(plain(base), config)
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data += 0.1 * torch.randn_like(parameter)
    model.save_pretrained(folder)
    return plain_sums(PeftModel.from_pretrained(plain(base), folder).eval(), GROUP).detach()


def ours(source, **options):
    return PolicyConfig(source=str(source), **options)


def edited(folder, **settings):
    path = folder / "adapter_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **settings}))
    return ours(folder)
