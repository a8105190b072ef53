"""A tiny gpt-oss as it is published: experts in MXFP4, 32 numbers of 4 bits that share a power of two."""

import json
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from support.tiny_models import tiny_model
from torch import Tensor

_NUMBERS = torch.tensor([0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0])  # sign apart: one bit of four


def write_mxfp4(folder: Path) -> dict[str, Tensor]:
    """Save random experts, and return what they stand for, by parameter."""
    tiny_model("GptOss", hidden_size=64, intermediate_size=64).save_pretrained(folder)
    tensors, generator = load_file(folder / "model.safetensors"), torch.Generator().manual_seed(0)
    expected = {}
    for name in [name for name in tensors if name.endswith(("experts.gate_up_proj", "experts.down_proj"))]:
        experts, inner, outer = tensors.pop(name).shape
        codes = torch.randint(16, (experts, outer, inner // 32, 32), generator=generator)
        scales = torch.randint(118, 126, (experts, outer, inner // 32), generator=generator)
        tensors[f"{name}_blocks"] = (codes[..., 0::2] + 16 * codes[..., 1::2]).to(torch.uint8)
        tensors[f"{name}_scales"] = scales.to(torch.uint8)
        values = _NUMBERS[codes % 8] * torch.where(codes < 8, 1.0, -1.0) * torch.exp2(scales - 127.0).unsqueeze(-1)
        expected[name] = values.flatten(2).transpose(1, 2)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    config = json.loads((folder / "config.json").read_text())
    whole = ["model.layers.*.self_attn", "model.layers.*.mlp.router", "model.embed_tokens", "lm_head"]
    config["quantization_config"] = {"quant_method": "mxfp4", "modules_to_not_convert": whole}
    (folder / "config.json").write_text(json.dumps(config))
    return expected
