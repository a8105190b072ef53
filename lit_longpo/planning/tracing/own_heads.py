"""Whether a model's head is more than the engine knows, told from the operators of its forward on fake tensors.

`fit` compares values; a plan has none. What a model computes between its last hidden states and its logits is
compared with what the engine computes there: one linear map, a factor and a soft-cap, each operator once.
"""

from collections import Counter
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from lit_longpo.engine import base_model
from lit_longpo.engine.decoder import decoder_of
from lit_longpo.engine.head import TiledHead, head_of
from lit_longpo.engine.scoring import logit_transform
from lit_longpo.planning.tracing.model import ModelPlan, hybrid_kinds
from lit_longpo.planning.tracing.stand_ins.scan import planned_scans
from lit_longpo.planning.tracing.steps import fake, materialised

_SCALES = dict.fromkeys(("mul", "mul_", "div", "div_"), "scale")  # a factor is written either way
_COPIES = frozenset({"clone", "_to_copy", "alias", "detach", "_unsafe_view", "unsafe_view"})


class _Computed(TorchDispatchMode):
    """Counts operators that compute something."""

    def __init__(self) -> None:
        super().__init__()
        self.names = Counter[str]()

    def __torch_dispatch__(self, operator: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = operator.overloadpacket.__name__
        by_one = name in _SCALES and not isinstance(args[1], Tensor) and args[1] == 1.0
        nothing = operator.is_view or name in _COPIES or by_one
        if operator.namespace == "aten" and not nothing:
            self.names[_SCALES.get(name, name)] += 1
        return operator(*args, **(kwargs or {}))


def has_own_head(plan: ModelPlan) -> bool:
    """Whether a model's logits are not what its head's weight makes of its last hidden states."""
    on_meta = replace(plan, sequential=True, lora=None).build(tuple(hybrid_kinds(plan.config)) or 1)
    with planned_scans(on_meta), fake(plan), torch.no_grad(), _Computed() as computed:
        model, states = base_model(materialised(on_meta)), list[Tensor]()

        def decoded(module: nn.Module, args: object, output: Any) -> None:
            states.append(output[0])
            computed.names.clear()

        decoder_of(model).register_forward_hook(decoded)
        logits = model(input_ids=torch.zeros(1, 2, dtype=torch.long), use_cache=False).logits
        theirs, head = computed.names.copy(), head_of(model)
        if not isinstance(head, TiledHead) or head.in_features != states[0].shape[-1]:
            return True
        computed.names.clear()
        ours = logit_transform(model.config.get_text_config())(head(states[0]))
        return theirs != computed.names or logits.shape != ours.shape
