"""Notes which tensors of published files transformers ignores, because its model class has no layers for them.

Examples are layers that predict several tokens at once (`mtp`, or the layer after the last one of DeepSeek-V3 and
GLM-4.5), and the vision tower of a model that is loaded as a language model (Qwen3.5). They are not trained, and saved
models lack them.
"""

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, cast

from safetensors import safe_open
from transformers import PreTrainedModel
from transformers.utils import SAFE_WEIGHTS_INDEX_NAME, SAFE_WEIGHTS_NAME

from lit_longpo.policy.locations import stored_file

_LAYER = re.compile(r".*?\.\d+(?=\.)")
# How configurations say that there are layers for several tokens at once.
_DECLARED = ("num_mtp_layers", "num_nextn_predict_layers", "mtp_num_hidden_layers")


def note_left_out(model: PreTrainedModel, source: str, revision: str | None) -> None:
    """Remember on the model which tensors of its files it has left out."""
    cast(Any, model).left_out = left_out_of(model, _tensor_names(source, revision))


def left_out(model: PreTrainedModel) -> Sequence[str]:
    """Names of the tensors in a model's files that it has left out; empty for a model without files."""
    return cast(Sequence[str], getattr(model, "left_out", ()))


@contextmanager
def declaring_no_drafts(model: PreTrainedModel) -> Iterator[None]:
    """Let a model that has left out tensors say meanwhile that it has no layers for several tokens at once.

    Its saved config.json would promise them otherwise, and who drafts with them, or converts the folder, would miss
    them only there.
    """
    config = model.config.get_text_config()
    promised = {name: getattr(config, name, None) for name in _DECLARED if left_out(model)}
    promised = {name: layers for name, layers in promised.items() if layers}
    for name in promised:
        setattr(config, name, 0)
    try:
        yield
    finally:
        for name, layers in promised.items():
            setattr(config, name, layers)


def left_out_of(model: PreTrainedModel, names: Iterable[str]) -> list[str]:
    """The given tensors that a model leaves out because it lacks their layers."""
    patterns = [re.compile(pattern) for pattern in model._keys_to_ignore_on_load_unexpected or ()]
    modules = [f".{name}" for name, _ in model.named_modules()]

    def is_inside(name: str) -> bool:
        """Whether it is a part of a layer that is there: a buffer of older versions, or keys that layers share."""
        layer = _LAYER.match(name)
        return layer is not None and any(module.endswith(f".{layer.group()}") for module in modules)

    passed_over = (name for name in names if any(pattern.search(name) for pattern in patterns))
    return sorted(name for name in passed_over if not name.endswith("inv_freq") and not is_inside(name))


def _tensor_names(source: str, revision: str | None) -> list[str]:
    """Names of the tensors in safetensors files; torch's own files are not looked into."""
    if (index := stored_file(source, SAFE_WEIGHTS_INDEX_NAME, revision)) is not None:
        return list(json.loads(index.read_text(encoding="utf-8"))["weight_map"])
    if (whole := stored_file(source, SAFE_WEIGHTS_NAME, revision)) is None:
        return []
    with safe_open(whole, "pt") as tensors:  # type: ignore[no-untyped-call]
        return list(tensors.keys())
