"""Logits of exported folders in a process without lit_longpo.

python plain_transformers.py OUT_FILE FOLDER...
"""

import sys

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

torch.set_num_threads(1)
PROBE = torch.arange(5, 45).unsqueeze(0)
made = {}
for folder in sys.argv[2:]:
    model = AutoModelForCausalLM.from_pretrained(folder).eval()
    with torch.no_grad():
        made[folder] = model(PROBE).logits
    assert AutoTokenizer.from_pretrained(folder).eos_token is not None
    assert model.generation_config.eos_token_id is not None
assert not any(name.startswith("lit_longpo") for name in sys.modules)
torch.save(made, sys.argv[1])
