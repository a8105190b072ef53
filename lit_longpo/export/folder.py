"""Model or adapters, tokenizer, generation settings and model card in one folder."""

import copy
import logging
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, cast
from unittest.mock import patch

from torch import Tensor, nn
from transformers import GenerationConfig, PreTrainedModel
from transformers.utils.hub import CHAT_TEMPLATE_DIR

from lit_longpo.engine import base_model, end_ids
from lit_longpo.errors import InputError, first_names
from lit_longpo.export.earlier_names import write_earlier_names
from lit_longpo.export.earlier_tokenizers import copy_vocabulary, write_earlier_tokenizer
from lit_longpo.export.processor import copy_processor
from lit_longpo.files.folders import holds_model
from lit_longpo.policy import PolicyConfig, PromptFormat
from lit_longpo.policy.adapters.weights import lost_by_peft
from lit_longpo.policy.prompts.trained_prompt import CARD
from lit_longpo.policy.weights import hub_commit
from lit_longpo.policy.weights.left_out import declaring_no_drafts, left_out

if TYPE_CHECKING:
    from peft import PeftModel

log = logging.getLogger(__name__)

# What save_pretrained of models, adapters and tokenizers writes, and what comes with a published model.
_KINDS = (".safetensors", ".bin", ".json", ".model", ".txt", ".jinja", ".py", ".md")


def is_merged(policy: PolicyConfig, merge_adapters: bool | None = None) -> bool:
    """Whether adapters are written into the weights.

    Args:
        policy: what was trained.
        merge_adapters: what the user wants; `None` keeps adapters apart where their base can be found again.

    Raises:
        InputError: adapters are wanted apart, and without more than them they would be another policy.
    """
    if policy.trained_lora is None:
        return False
    because = _half(policy)
    if because and merge_adapters is False:
        raise InputError(f"{because}, so adapters alone would be half the policy; leave --merge_adapters out")
    if because and merge_adapters is None:
        log.info("adapters are merged, in fp32: %s", because)
    return because is not None or bool(merge_adapters)


def _half(policy: PolicyConfig) -> str | None:
    """Why adapters do not make the policy out of a base that can be found."""
    assert policy.trained_lora is not None
    if policy.trained_lora.also_train:
        return "base weights were trained beside the adapters (`policy.lora.also_train`)"
    if policy.rope is not None:
        return "the base has other rotary positions (`policy.rope`)"
    if policy.adapters == "merge":
        return "their base, earlier adapters merged (`policy.adapters: merge`), lies nowhere"
    if policy.gguf_file is not None:
        return "their base is a gguf file (`policy.gguf_file`), which adapters cannot name"
    if policy.weights == "random":
        return "their base was drawn at random (`policy.weights`) and lies nowhere"
    return None


def check_replaceable(folder: Path) -> None:
    """Refuse a folder that a model cannot replace without losing something else.

    Raises:
        InputError: it holds something that is no part of a model.
    """
    if not folder.exists():
        return
    there = sorted(folder.iterdir()) if folder.is_dir() else [folder]
    odd = [path for path in there if path.is_dir() or path.suffix not in _KINDS]
    strange = [path.name for path in odd if path.name != CHAT_TEMPLATE_DIR]
    if there and (strange or not holds_model(folder)):
        raise InputError(
            f"expected an empty folder or a model at {folder}, got {(strange or [there[0].name])[0]}, which would be "
            "deleted; move it, or name another folder"
        )


def save_policy(
    model: nn.Module, prompt_format: PromptFormat, folder: Path, card: str, state: dict[str, Tensor] | None = None
) -> None:
    """Write the folder, which should be empty: a PEFT-wrapped model's adapters, else the model.

    `state` holds whole tensors where the model itself is sharded.
    """
    base = base_model(model)
    if model is not base:
        _name_base(cast("PeftModel", model), base)
        _warn_of_lost(cast("PeftModel", model))
    else:
        _warn_of_left_out(base)
        copy_processor(base, folder)
    # A model's own generation settings may be such that transformers refuses to save it.
    with patch.object(base, "generation_config", GenerationConfig()), declaring_no_drafts(base):
        cast("PreTrainedModel | PeftModel", model).save_pretrained(str(folder), state_dict=state)
    if model is base:
        write_earlier_names(folder, type(base.config))
    _write_generation_settings(model, prompt_format.end_id, folder)
    prompt_format.tokenizer.save_pretrained(folder)
    copy_vocabulary(prompt_format.tokenizer, folder)
    write_earlier_tokenizer(folder)
    (folder / CARD).write_text(card, encoding="utf-8")  # peft has written one without a word on the run
    for path in folder.glob("*.safetensors"):
        shutil.copymode(folder / CARD, path)  # safetensors lets nobody but the owner read them (its issue 782)


def _warn_of_left_out(model: PreTrainedModel) -> None:
    if names := left_out(model):
        log.warning(
            "the saved model lacks %d tensors of its source, for which %s has no layers (%s): drafts of several tokens "
            "at once, or pictures, need them from %s",
            *(len(names), type(model).__name__, first_names(names, 2)),
            model.name_or_path,
        )


def _warn_of_lost(model: "PeftModel") -> None:
    if lost := lost_by_peft(model):
        log.warning(
            "peft alone leaves out %d of these adapters' tensors, to which it gives other names as it reads them (%s); "
            "`policy.source` reads them all, and so does whoever reads an export with --merge_adapters true",
            len(lost),
            lost[0],
        )


def _name_base(model: "PeftModel", base: PreTrainedModel) -> None:
    """Where the base is found again from any working directory, and in the version that was trained on."""
    name = str(base.name_or_path)
    path = Path(name).expanduser()
    for config in model.peft_config.values():
        config.base_model_name_or_path = str(path.resolve()) if path.is_dir() else name
        config.revision = hub_commit(base)


def _write_generation_settings(model: nn.Module, end_id: int, folder: Path) -> None:
    """The model's own settings; the token that ends answers in training ends them in generation too."""
    settings = copy.deepcopy(base_model(model).generation_config) or GenerationConfig()
    ends = [*end_ids(model)]
    if end_id not in ends:
        ends.append(end_id)
        if not isinstance(model, PreTrainedModel):
            log.warning(
                "answers end with token %d, which does not end them in the base model's generation settings, and "
                "those are read with adapters; generate with generation_config="
                "GenerationConfig.from_pretrained(FOLDER), or export with --merge_adapters true",
                end_id,
            )
    settings.eos_token_id = ends if len(ends) > 1 else ends[0]
    settings.to_json_file(folder / "generation_config.json", use_diff=True, keys_to_pop=["compile_config"])
