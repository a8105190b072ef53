"""Model or adapters, tokenizer, generation settings and model card in one folder."""

from pathlib import Path
from typing import TYPE_CHECKING, cast

from torch import Tensor, nn
from transformers import PreTrainedModel

from lit_longpo.engine import base_model
from lit_longpo.errors import InputError
from lit_longpo.policy import PolicyConfig, PromptFormat

if TYPE_CHECKING:
    from peft import PeftModel


def is_merged(policy: PolicyConfig, merge_adapters: bool | None = None) -> bool:
    """Whether adapters are written into the weights.

    Args:
        policy: what was trained.
        merge_adapters: what the user wants; `None` keeps adapters apart where their base can be found again.

    Raises:
        ValueError: adapters are wanted apart, and the base weights beside them were trained too.
    """
    if policy.lora is None:
        return False
    if policy.lora.also_train and merge_adapters is False:
        raise InputError(
            "base weights were trained beside the adapters (`policy.lora.also_train`), so adapters alone would be "
            "half the policy; leave --merge_adapters out"
        )
    has_no_folder = policy.gguf_file is not None or policy.weights == "random"
    return bool(policy.lora.also_train) or (has_no_folder if merge_adapters is None else merge_adapters)


def save_policy(
    model: nn.Module, prompt_format: PromptFormat, folder: Path, card: str, state: dict[str, Tensor] | None = None
) -> None:
    """Write the folder.

    Args:
        model: the policy; PEFT-wrapped, its adapters are written.
        prompt_format: its tokenizer.
        folder: where to.
        card: text of README.md.
        state: whole tensors, where the model itself is sharded.
    """
    cast("PreTrainedModel | PeftModel", model).save_pretrained(str(folder), state_dict=state)
    if settings := base_model(model).generation_config:
        settings.save_pretrained(folder)  # peft leaves them out
    prompt_format.tokenizer.save_pretrained(folder)
    (folder / "README.md").write_text(card, encoding="utf-8")  # peft has written one without a word on the run
