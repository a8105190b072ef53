"""Whether a model's prompts may be computed in parts, in one batch, or behind padding."""

import inspect

from transformers import GenerationMixin, PreTrainedModel

from lit_longpo.engine.layers import STATE_LAYERS, counts_columns, layer_kinds
from lit_longpo.engine.rotary import depends_on_length
from lit_longpo.engine.states import masks_padding, mixers, unreachable_states

_BY_DISTANCE = ("bloom", "mpt", "roformer")  # between tokens, and nowhere by a position
# What a forward calls the keys and values of the tokens before its own; the first name since transformers 5.24.
_CACHE_NAMES = ("cache", "past_key_values")
_PADDING_COUNTS = "_padding_counts"  # of a model to which it means something
_KNOWN = inspect.signature(GenerationMixin.prepare_inputs_for_generation).parameters
CACHE = next(name for name in _CACHE_NAMES if name in _KNOWN)  # by which `generate` takes and gives them


def carries_state(model: PreTrainedModel) -> bool:
    """Whether some layers keep a recurrent state; a cache cannot select rows of it."""
    kinds = layer_kinds(model.config.get_text_config())
    return bool(mixers(model)) or any(kind in STATE_LAYERS for kind in kinds)


def keeps_more_than_keys(model: PreTrainedModel) -> bool:
    """Whether a cache holds more than keys and values, which `Cache.batch_select_indices` would leave as it is."""
    return carries_state(model) or counts_columns(model.config.get_text_config())


def continues(model: PreTrainedModel) -> bool:
    """Whether a prompt may be computed in parts, each on the cache that the parts before have left.

    Not if rotary angles depend on the length: a part's keys would get the angles of the part's own length
    (under longrope those of other factors).
    """
    known = unreachable_states(model, model.config.get_text_config()) is None
    taken = any(name in inspect.signature(model.forward).parameters for name in _CACHE_NAMES)
    return known and taken and _counts_tokens(model) and not angles_differ(model)


def _counts_tokens(model: PreTrainedModel) -> bool:
    """Whether a cache of the model knows how many tokens it holds: keys tell, states alone do not."""
    kinds = layer_kinds(model.config.get_text_config())
    attends = any(kind not in STATE_LAYERS or kind == "hybrid" for kind in kinds)
    return attends or not getattr(model, "_is_stateful", False)


def pads(model: PreTrainedModel) -> bool:
    """Whether padding on the left changes no answer; it does if a state reads it, or if columns are counted."""
    counted = getattr(model, _PADDING_COUNTS, False) or counts_columns(model.config.get_text_config())
    if counted or not _is_told_positions(model):
        return False
    return not carries_state(model) or masks_padding(model)


def refuse_padding(model: PreTrainedModel) -> None:
    """From now on ask this model without padding, because a trial has shown that padding changes its answers."""
    setattr(model, _PADDING_COUNTS, True)


def _is_told_positions(model: PreTrainedModel) -> bool:
    """Whether the model learns its tokens' positions from `generate`; BART's decoder counts columns, padding too."""
    told = "position_ids" in inspect.signature(model.forward).parameters
    return told or carries_state(model) or model.config.model_type in _BY_DISTANCE


def angles_differ(model: PreTrainedModel) -> bool:
    """Whether a position's angles depend on the length of the sequence."""
    return any(map(depends_on_length, model.modules()))
