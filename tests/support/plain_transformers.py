"""What transformers alone makes of exported folders; as a script in a process without lit_longpo.

python plain_transformers.py OUT_FILE FOLDER...
"""

import sys

import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer

PROBE = torch.arange(5, 45).unsqueeze(0)


def plain_logits(folder: str) -> Tensor:
    """Of the probe. Shape: (1, tokens, vocabulary)."""
    model = AutoModelForCausalLM.from_pretrained(folder).eval()
    assert AutoTokenizer.from_pretrained(folder).eos_token is not None
    assert model.generation_config.eos_token_id is not None
    with torch.no_grad():
        return model(PROBE).logits


if __name__ == "__main__":
    torch.set_num_threads(1)
    made = {folder: plain_logits(folder) for folder in sys.argv[2:]}
    assert not any(name.startswith("lit_longpo") for name in sys.modules)
    torch.save(made, sys.argv[1])
