"""A model's own files, or those of adapters and their base: configuration, tokenizer, and what reading them takes."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from transformers import AutoConfig, GenerationConfig, PretrainedConfig, PreTrainedTokenizerBase

from lit_longpo.errors import InputError, MissingFileError, require_package
from lit_longpo.policy.adapters.folder import AdapterFolder, hub_adapters
from lit_longpo.policy.file_errors import read_by_transformers
from lit_longpo.policy.locations import locate
from lit_longpo.policy.rope import state_head_width
from lit_longpo.policy.tokenizer.gguf_rules import by_gguf_rules
from lit_longpo.policy.tokenizer.reading import read_tokenizer

_DTYPES = (torch.float32, torch.bfloat16, torch.float16)
_MOST_MODULES = 20_000  # layers, experts and the like, of which transformers makes modules before it looks at weights

AdaptersAtStart = Literal["continue", "merge"]


@dataclass(frozen=True)
class ModelFiles:
    """Where a policy's files are, and what they say before any weight is read."""

    source: str
    gguf_file: str | None = None
    trust_remote_code: bool = False

    def adapters(self) -> AdapterFolder | None:
        """The adapters at `source`; `None` if a model lies there.

        Raises:
            InputError: see `AdapterFolder.at`.
        """
        location = locate(self.source, self.gguf_file)
        folder = Path(location) if Path(location).is_dir() else hub_adapters(location)
        return None if folder is None else AdapterFolder.at(folder)

    def start_adapters(self, how: AdaptersAtStart, *, random: bool) -> AdapterFolder | None:
        """The adapters that training starts with, to be continued or merged; `None` if the source is a whole model.

        Raises:
            InputError: there are none to merge, or random weights are wanted under them.
        """
        folder = self.adapters()
        if folder is None and how == "merge":
            raise InputError(
                f"expected adapters at {locate(self.source, self.gguf_file)} for `policy.adapters: merge`, got a "
                "model; type --policy.adapters continue, which does nothing to a model"
            )
        if folder is not None and random:
            raise InputError(
                f"expected `policy.weights: pretrained` with the adapters at {folder.path}, got random weights, which "
                f"they were not trained on; type --policy.source {folder.base}"
            )
        return folder

    def continued_adapters(self, how: AdaptersAtStart) -> AdapterFolder | None:
        """The adapters that are trained further; `None` without any, or if nothing lies at the source (in `plan`)."""
        try:
            return self.adapters() if how == "continue" else None
        except MissingFileError:  # whoever reads the source says what is missing
            return None

    def where(self) -> str:
        """Folder or hub name of the model's own files, under adapters if there are some."""
        folder = self.adapters()
        return locate(self.source, self.gguf_file) if folder is None else folder.base

    @property
    def folder(self) -> Path | None:
        """Where the files lie; `None` if a hub has them, or nobody."""
        try:
            folder = Path(self.where())
        except MissingFileError:
            return None
        return folder if folder.is_dir() else None

    def folders(self) -> list[Path]:
        """Folders on this machine that the policy is read from."""
        return [Path(place) for place in {locate(self.source, self.gguf_file), self.where()} if Path(place).is_dir()]

    def config(self) -> PretrainedConfig:
        """The model's configuration as its file says, or that of the base of adapters there."""
        with read_by_transformers("a language model's configuration", self.where()):
            config = AutoConfig.from_pretrained(self.where(), **self.options())
            text = config.get_text_config()  # of several (models of music) transformers does not know which is meant
        state_head_width(text)
        check_depth(config, self.where())
        return config

    def dtype(self) -> str:
        """The precision of the weights; "float32" for gguf files, and if none of ours is stated."""
        if self.gguf_file is not None:  # reading a configuration out of them takes seconds
            return "float32"
        stated = getattr(self.config().get_text_config(), "dtype", None)
        return str(stated).removeprefix("torch.") if stated in _DTYPES else "float32"

    def generation(self) -> GenerationConfig:
        """The generation settings beside that configuration, as transformers loads them with the weights."""
        try:
            revision = self.options().get("revision", "main")
            return GenerationConfig.from_pretrained(self.where(), revision=revision)
        except OSError:  # there is no such file
            return GenerationConfig.from_model_config(self.config())

    def tokenizer(self) -> PreTrainedTokenizerBase:
        """The tokenizer as it lies there; adapters without one have their base's."""
        folder = self.adapters()
        if folder is not None and (folder.path / "tokenizer_config.json").is_file():
            return read_tokenizer(str(folder.path), trust_remote_code=self.trust_remote_code)
        tokenizer = read_tokenizer(self.where(), **self.options())
        if self.gguf_file is not None:
            by_gguf_rules(tokenizer, self.where(), self.gguf_file)
        return tokenizer

    def options(self) -> dict[str, Any]:
        """What `from_pretrained` has to know of whatever it reads.

        Raises:
            MissingPackageError: gguf files without the `gguf` extra.
        """
        options: dict[str, Any] = {"trust_remote_code": self.trust_remote_code}
        if self.gguf_file is not None:
            require_package("gguf", "`policy.gguf_file`", 'type: pip install "lit_longpo[gguf]"')
            options["gguf_file"] = self.gguf_file
        folder = self.adapters()
        if folder is not None and folder.revision is not None:
            options["revision"] = folder.revision
        return options


def check_depth(config: PretrainedConfig, where: str) -> None:
    """Refuse absurd numbers of layers or experts, of which transformers would build modules until memory ends."""
    for name, value in _numbers(config.to_dict()):
        if re.search("(layers?|experts?|blocks|depth)$", name) and value > _MOST_MODULES:
            raise InputError(
                f"expected {name} of at most {_MOST_MODULES:,} in the config.json at {where}, got {value:.6g}; correct "
                "it, or copy that file again"
            )


def _numbers(settings: Mapping[str, Any]) -> Iterator[tuple[str, int | float]]:
    """Every number of a configuration and of those in it."""
    for name, value in settings.items():
        if isinstance(value, Mapping):
            yield from _numbers(value)
        elif isinstance(value, int | float) and not isinstance(value, bool):
            yield str(name), value
