"""Whether the tensors of adapters belong to the model that they are put on, by their names and shapes."""

import re
from pathlib import Path
from typing import TYPE_CHECKING, cast

from torch import Tensor
from transformers import PreTrainedModel

from lit_longpo.engine import base_model
from lit_longpo.engine.decoder import whole_shape
from lit_longpo.errors import InputError
from lit_longpo.policy.adapters.config import ADAPTER_CONFIG
from lit_longpo.policy.adapters.weights import adapter_state, is_second_name

if TYPE_CHECKING:
    from peft import PeftModel

PREFIX = "base_model.model."  # of the names of tensors
_OTHER_EXPERTS = re.compile(r"\.experts\.\d+\.|\.block_sparse_moe\.")  # modules of transformers 4


def check_tensors(wrapped: "PeftModel", weights: dict[str, Tensor], path: Path, *, bias: str) -> None:
    """Refuse tensors that are not those of a model's adapters: too few, unknown, or of another shape.

    Raises:
        InputError: saying why, where the reason is a known one.
    """
    expected = {name: whole_shape(tensor) for name, tensor in adapter_state(wrapped).items()}
    base = base_model(wrapped)
    of_base = {PREFIX + name: whole_shape(p) for name, p in base.named_parameters(remove_duplicate=False)}
    shapes = {**of_base, **expected}
    lost = sorted(expected.keys() - weights.keys())
    odd = sorted(name for name in weights.keys() - shapes.keys() if not is_second_name(name, weights, shapes.keys()))
    other = sorted(name for name, tensor in weights.items() if shapes.get(name, tensor.shape) != tensor.shape)
    if other and not lost and not odd and (rows := _resized_rows(base, weights, other)):
        raise InputError(
            f"expected adapters of {base.name_or_path} at {path}, got some whose base had {rows} rows of embeddings, "
            f"as training has resized them; resize the base's (`resize_token_embeddings({rows})`), save it, and name "
            f"that folder as `base_model_name_or_path` in {path / ADAPTER_CONFIG}"
        )
    if apart := next(filter(_OTHER_EXPERTS.search, odd), None):
        raise InputError(
            f"expected adapters by today's names of {base.name_or_path} at {path}, got those of transformers 4, whose "
            f"experts and routers were other modules ({apart}); merge them there (`merge_and_unload`), and set "
            "`policy.source` to the result"
        )
    if lost and all(name.endswith(".base_layer.bias") for name in lost):
        raise InputError(
            f"expected the biases that `bias: {bias}` says were trained at {path}, got none by the names of "
            f"{len(lost)}, which other versions of peft leave out or call otherwise; merge them where they were "
            "trained (`merge_and_unload`), and set `policy.source` to the result"
        )
    if lost or odd or other:
        raise InputError(
            f"expected adapters of {base.name_or_path} at {path}, got {len(lost)} tensors too few, {len(odd)} unknown "
            f"and {len(other)} of another shape, for example {(lost + odd + other)[0]!r}; set "
            f"`base_model_name_or_path` in {path / ADAPTER_CONFIG} to the model they were trained on"
        )


def _resized_rows(base: PreTrainedModel, weights: dict[str, Tensor], other: list[str]) -> int | None:
    """How many tokens the adapters' base had, if that is all that tensors of another shape tell."""
    ends = (base.get_input_embeddings(), base.get_output_embeddings())
    width = {whole_shape(cast(Tensor, end.weight))[1] for end in ends if end is not None}
    shapes = {tuple(weights[name].shape) for name in other if name.endswith((".weight", ".base_layer.weight"))}
    rows = {shape[0] for shape in shapes if len(shape) == 2 and shape[1] in width}
    return rows.pop() if len(rows) == 1 and len(shapes) == 1 else None
