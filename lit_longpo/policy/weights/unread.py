"""The vision and audio towers beside a language model (Gemma 3, Gemma 4), which text never reaches.

Their weights get no gradient: adapters on them would be trained for nothing, DDP would wait for their gradients and end
in an error, and the optimizer would hold states for them (trl#6617).
"""

import logging

from torch import nn
from transformers import PreTrainedModel

from lit_longpo.engine import base_model
from lit_longpo.engine.decoder import decoder_of

log = logging.getLogger(__name__)


def unread_parts(model: PreTrainedModel) -> dict[str, nn.Module]:
    """The modules beside the language model, by name; empty for a model of text alone."""
    decoder, head = decoder_of(model), model.get_output_embeddings()
    # A model whose prefix is another class's is its own base (Llama 4's text), and its head lies beside its decoder.
    read = {id(weight) for part in (decoder, head) if part is not None for weight in part.parameters()}
    names = {id(module): name for name, module in model.named_modules()}
    children = list(model.base_model.children())
    beside = [child for child in children if not any(id(weight) in read for weight in child.parameters())]
    return {names[id(child)]: child for child in beside} if decoder in children else {}


def unread_maps(model: PreTrainedModel) -> set[str]:
    """Names of the linear maps in those parts."""
    return {
        f"{part}.{name}" if name else part
        for part, module in unread_parts(model).items()
        for name, inner in module.named_modules()
        if isinstance(inner, nn.Linear)
    }


def freeze_unread(model: nn.Module) -> None:
    """Train nothing in those parts."""
    parts = unread_parts(base_model(model))
    trained = [name for name, part in parts.items() if any(p.requires_grad for p in part.parameters())]
    for part in parts.values():
        part.requires_grad_(False)
    if trained:
        log.info("text never reaches %s, so they stay as they are", ", ".join(trained))
