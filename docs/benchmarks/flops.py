"""Floating-point operations that a step has to do, for MFU.

Counted is what the model's mathematics asks for, each prompt once: two operations per weight and token, and
causal attention's two products over the keys that each query sees. Recomputation and an implementation's
repeated prompts are not counted: whoever repeats work has a lower MFU. Backward costs twice the forward for
trained weights, once for frozen ones (LoRA), whose own gradient nobody needs; attention always twice.
"""

from benchmarks.setting import Setting, Shape

# Dense peak of an H100, H200 or similar (SXM), by dtype of the weights.
PEAK_TFLOPS = {"bfloat16": 989.0, "float16": 989.0}


def layer_weights(shape: Shape) -> int:
    """Weights of all layers' products (embedding and head apart)."""
    attention = shape.hidden * shape.head_size * (2 * shape.heads + 2 * shape.kv_heads)
    return shape.layers * (attention + 3 * shape.hidden * shape.intermediate)


def seen_keys(setting: Setting) -> float:
    """Sum over all queries of the keys each sees, the shared prompt counted once."""
    prompt = setting.prompt * (setting.prompt + 1) / 2
    return prompt + sum(answer * setting.prompt + answer * (answer + 1) / 2 for answer in setting.answers)


def step_flops(setting: Setting) -> float:
    """Forward and backward of one optimizer step over one shared prompt and its responses."""
    return layer_flops(setting) + head_flops(setting) + attention_flops(setting)


def layer_flops(setting: Setting) -> float:
    """Of the layers' products, attention's apart."""
    tokens = setting.prompt + sum(setting.answers)
    return 2.0 * layer_weights(setting.sizes) * tokens * _passes(setting)


def head_flops(setting: Setting) -> float:
    """Of the head, over scored tokens."""
    return 2.0 * setting.sizes.vocab * setting.sizes.hidden * sum(setting.answers) * _passes(setting)


def attention_flops(setting: Setting) -> float:
    """Of attention's two products."""
    shape = setting.sizes
    return 4.0 * shape.layers * shape.heads * shape.head_size * seen_keys(setting) * 3


def _passes(setting: Setting) -> int:
    return 2 if setting.lora else 3
