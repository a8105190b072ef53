"""Start-up check: is a packed row exact for this model? Rules from the configuration, then a probe.

Counting attention calls proves nothing (a Mamba branch beside attention passes the count), so two
tiny groups are scored packed and as separate rows with the model's own logits. One prompt has a jump
in its positions: transformers would take that for a boundary.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from transformers import PretrainedConfig, PreTrainedModel

from lit_longpo.batch import Group, Response
from lit_longpo.engine.attention import UnsupportedModelError, ordinary_attention
from lit_longpo.engine.packing import pack
from lit_longpo.engine.scoring import base_model, row_log_probs

_EXACT_LAYERS = {"full_attention", "sliding_attention"}
_TOLERANCE = {torch.float64: 1e-6, torch.float32: 1e-4, torch.float16: 2e-2, torch.bfloat16: 5e-2}


def check_model(model: nn.Module) -> float:
    """Refuse a model whose packed log-probabilities would be wrong.

    Args:
        model: loaded with the prefix-shared attention, perhaps PEFT-wrapped.

    Returns:
        The probe's largest error, relative to the largest log-probability.

    Raises:
        UnsupportedModelError: naming model class and cause.
    """
    base = base_model(model)
    cause = refusal(base.config.get_text_config())
    if cause is not None:
        raise UnsupportedModelError(f"{type(base).__name__} cannot be trained in packed rows: {cause}")
    try:
        error, where = probe(model)
    except UnsupportedModelError as refused:
        raise UnsupportedModelError(f"{type(base).__name__} cannot be trained in packed rows: {refused}") from refused
    tolerance = _TOLERANCE[coarsest_dtype(base)]
    if not error <= tolerance:
        raise UnsupportedModelError(
            f"{type(base).__name__} cannot be trained in packed rows: {where} differs from separate rows by "
            f"{error:.1e} (tolerance {tolerance:.0e}). A layer carries state between responses, the head changes "
            "its logits in a way we do not know, or keywords are dropped on the way to attention"
        )
    return error


def coarsest_dtype(model: nn.Module) -> torch.dtype:
    """Of the first parameter (the embeddings) and of products with 4-bit weights, which are said beside these."""
    said = [module.compute_dtype for module in model.modules() if hasattr(module, "compute_dtype")]
    return min([next(model.parameters()).dtype, *filter(None, said)], key=lambda dtype: torch.finfo(dtype).bits)


def refusal(config: PretrainedConfig) -> str | None:
    """Why the configuration rules packed rows out; `None` if it does not."""
    layers = set(getattr(config, "layer_types", None) or ()) - _EXACT_LAYERS
    if layers:
        return f"layers of type {sorted(layers)} carry state or masks that a packed row would mix up"
    if getattr(config, "attention_dropout", 0.0):
        return "attention dropout differs between responses of one prompt; set `attention_dropout: 0`"
    return None


@torch.no_grad()
def probe(model: nn.Module) -> tuple[float, str]:
    """Largest relative error of packed against separate rows, and which row it came from."""
    base = base_model(model)
    training = model.training
    model.eval()
    try:
        groups = probe_groups(base.config.get_text_config())
        device = next(base.parameters()).device
        packed = row_log_probs(model, pack(groups).to(device))
        with ordinary_attention(base):
            separate = [_separate_log_probs(base, group, response) for group, response in _rows(groups)]
    finally:
        model.train(training)
    sizes = [len(part) for part in separate]
    scale = torch.cat(separate).abs().max()
    errors = [(a - b).abs().max() / scale for a, b in zip(packed.split(sizes), separate, strict=True)]
    worst = max(range(len(errors)), key=lambda number: _or_infinite(errors[number]))
    group, response = list(_rows(groups))[worst]
    return _or_infinite(errors[worst]), f"response {response.index} of {group.example}"


def probe_groups(config: PretrainedConfig) -> list[Group]:
    """Two prompts, three responses each; the second prompt jumps in its positions."""
    generator = torch.Generator().manual_seed(0)
    window = getattr(config, "sliding_window", None) or 0
    length = 24 + (window if window <= 256 else 0)

    def draw(count: int) -> tuple[int, ...]:
        return tuple(torch.randint(5, config.vocab_size, (count,), generator=generator).tolist())

    jump = tuple(number if number < length // 2 else number + 100 for number in range(length))
    return [
        _probe_group("the plain prompt", draw, length, None),
        _probe_group("the jumping prompt", draw, length, jump),
    ]


def _probe_group(
    name: str, draw: Callable[[int], tuple[int, ...]], length: int, positions: tuple[int, ...] | None
) -> Group:
    responses = tuple(Response("rejected", draw(size), (True,) * size, index) for index, size in enumerate((5, 7, 3)))
    return Group(name, "long", draw(length), responses, positions)


def _rows(groups: Sequence[Group]) -> list[tuple[Group, Response]]:
    return [(group, response) for group in groups for response in group.responses]


def _separate_log_probs(model: PreTrainedModel, group: Group, response: Response) -> Tensor:
    """The model's own forward on one (prompt, response) row, whole logits. Shape: (response tokens,)."""
    device = next(model.parameters()).device
    ids = torch.tensor([group.prompt_ids + response.token_ids], device=device)
    prompt = group.position_ids or tuple(range(len(group.prompt_ids)))
    positions = (*prompt, *range(prompt[-1] + 1, prompt[-1] + 1 + len(response.token_ids)))
    logits = model(
        input_ids=ids,
        position_ids=torch.tensor([positions], device=device),
        # An explicit mask keeps transformers from reading the jump as a sequence boundary.
        attention_mask=torch.ones_like(ids),
        use_cache=False,
    ).logits
    start = len(group.prompt_ids)
    log_probs = logits[0, start - 1 : -1].float().log_softmax(-1)
    return log_probs.gather(1, ids[0, start:].unsqueeze(1)).squeeze(1)


def _or_infinite(value: Tensor) -> float:
    return float(value) if torch.isfinite(value) else float("inf")
