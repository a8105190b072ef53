"""Asks the configured data module how long its examples are; nothing else is made for that."""

from pathlib import Path
from typing import Any

from jsonargparse import Namespace
from lightning.pytorch import LightningDataModule

from lit_longpo.batch import Views
from lit_longpo.command_line.parser import SuggestingParser
from lit_longpo.errors import UserError
from lit_longpo.planning.inputs.row import LongestExample
from lit_longpo.policy import PolicyConfig
from lit_longpo.policy.locations import locate, stored_file


def longest_example(config: Namespace, views: Views, policy: PolicyConfig) -> tuple[LongestExample | None, str]:
    """(the largest example, where its length comes from), or (`None`, why it is not known)."""
    if config.get("shape") is not None:
        return None, "`--shape` has no tokenizer to count with"
    try:
        if not _has_tokenizer(policy):
            return None, f"the tokenizer of {policy.source} is not on this machine"
        data = _data_module(config)
        if not hasattr(data, "longest_example"):
            return None, _unknown(data)
        data.views, data.prompt_format = views, policy.prompt_format()
        found: LongestExample | None = data.longest_example(Path(config.trainer.default_root_dir or ""))
    except (UserError, OSError) as error:
        return None, f"the data cannot be read ({error})"
    return (found, found.source) if found is not None else (None, _unknown(data))


def _has_tokenizer(policy: PolicyConfig) -> bool:
    """Whether it is there without a look into the hub."""
    place = locate(policy.source, policy.gguf_file)
    return Path(place).exists() or stored_file(place, "tokenizer_config.json") is not None


def _data_module(config: Namespace) -> Any:
    parser = SuggestingParser()
    parser.add_subclass_arguments(LightningDataModule, "data")
    return parser.instantiate_classes(Namespace(data=config.data)).data


def _unknown(data: object) -> str:
    return f"those of {type(data).__name__} are not known before they are tokenised"
