"""Floating-point operations of a step: what it has to do, for MFU, and what a side does, for the bars.

`step_flops` counts what the model's mathematics asks for, each prompt once: two operations per weight and token, and
causal attention's two products over the keys that each query sees. Recomputation and an implementation's
repeated prompts are not counted: whoever repeats work has a lower MFU. Backward costs twice the forward for
trained weights, once for frozen ones (LoRA), whose own gradient nobody needs; attention always twice.

`computed_flops` counts both: their ratio is the ratio of times if both sides compute equally fast.
"""

from dataclasses import replace

from benchmarks.setting import Setting, Shape

from lit_longpo.engine.log_probs import projected_twice

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


def computed_flops(setting: Setting, *, ours: bool) -> float:
    """Of a step of DPO or SoLoPO (on DPO), as our engine or TRL's trainer with its response-only head computes it.

    Attention's backward is five products, its forward two. TRL projects every tile of logits twice, we all but the
    last. Of a recomputed layer the MLP's last product is left out by both: no gradient asks for it.

    Args:
        setting: of the step.
        ours: whose; TRL gives every response a row of its own, and so do we where prompts are separate.
    """
    shape, rows = setting.sizes, _rows(setting, shared=ours and not setting.separate)
    again = bool(setting.checkpointing)
    attention = 3.5 + (again and setting.checkpointing != "keep_attention")
    tokens = sum(prompt + sum(answers) for prompt, answers in rows)
    scored = sum(sum(answers) for _, answers in rows)
    keys = sum(seen_keys(replace(setting, prompt=prompt, answers=answers)) for prompt, answers in rows)
    recomputed = layer_weights(shape) - shape.layers * shape.hidden * shape.intermediate
    layers = 2.0 * tokens * (layer_weights(shape) * _passes(setting) + recomputed * again)
    projections = scored * _passes(setting) + (projected_twice(scored, shape.vocab) if ours else scored)
    head = 2.0 * shape.vocab * shape.hidden * projections
    return layers + head + 4.0 * shape.layers * shape.heads * shape.head_size * keys * attention


def _rows(setting: Setting, *, shared: bool) -> list[tuple[int, tuple[int, ...]]]:
    """Tokens of prompts and of the responses behind each. SoLoPO scores the chosen one behind the long prompt."""
    rows = [(setting.prompt, setting.answers)]
    if setting.objective == "solopo":
        rows = [(setting.prompt, setting.answers[:1]), (setting.short, setting.answers)]
    return rows if shared else [(prompt, (answer,)) for prompt, answers in rows for answer in answers]
