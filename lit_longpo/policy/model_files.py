"""A model's own files, or those of adapters and their base: configuration, tokenizer, and what reading them takes."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from transformers import AutoConfig, AutoTokenizer, GenerationConfig, PretrainedConfig, PreTrainedTokenizerBase

from lit_longpo.errors import InputError, MissingFileError, require_package
from lit_longpo.policy.adapters.folder import AdapterFolder, hub_adapters
from lit_longpo.policy.locations import locate
from lit_longpo.policy.prompts.gguf_rules import by_gguf_rules
from lit_longpo.policy.prompts.merge_dropout import merge_all
from lit_longpo.policy.prompts.mistral_rules import warn_of_mistral_rules
from lit_longpo.policy.prompts.sentencepiece_rules import check_sentencepiece_rules, is_tiktokens
from lit_longpo.policy.prompts.stored_rules import by_stored_rules, warn_of_other_template
from lit_longpo.policy.rope import state_head_width
from lit_longpo.policy.sources import check_depth, read_by_transformers
from lit_longpo.policy.weights.gguf_header import GgufHeader

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
            return _read_tokenizer(str(folder.path), trust_remote_code=self.trust_remote_code)
        tokenizer = _read_tokenizer(self.where(), **self.options())
        if self.gguf_file is not None:
            header = GgufHeader.of_model(self.where(), self.gguf_file)
            by_gguf_rules(tokenizer, header.settings, self.gguf_file)
            _name_special_tokens(tokenizer)
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


def _read_tokenizer(where: str, **options: Any) -> PreTrainedTokenizerBase:
    if "gguf_file" not in options:  # which has the vocabulary itself
        _require_reader(where)
        _refuse_tekken_alone(where)
    with read_by_transformers("a tokenizer", where):
        # Never mistral-common's own class, which has no chat template: transformers reads tekken.json, too.
        tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(where, mistral_format=False, **options)
        _check_words(tokenizer, where)
        if "gguf_file" not in options:
            check_sentencepiece_rules(tokenizer, where, options.get("revision"))
            warn_of_other_template(where, options.get("revision"))
        merge_all(tokenizer, where)
        warn_of_mistral_rules(tokenizer, where, **options)
        tokenizer = tokenizer if "gguf_file" in options else by_stored_rules(tokenizer, where, **options)
    # Else the chat template's own marks would be text; which of them are in data is `template.markup`'s.
    tokenizer.split_special_tokens = False
    return tokenizer


def _check_words(tokenizer: PreTrainedTokenizerBase, where: str) -> None:
    """Refuse a tokenizer without a vocabulary, as transformers 5 builds one from its class if the files are missing."""
    if len(tokenizer) <= len(tokenizer.added_tokens_decoder):
        raise MissingFileError(
            f"expected a tokenizer with a vocabulary at {where}, got {type(tokenizer).__name__} without one: there is "
            "no tokenizer.json (or vocab.json with merges.txt, or tokenizer.model); copy it there from the model that "
            "this one was trained from"
        )


def _require_reader(where: str) -> None:
    """Ask for the package that reads this tokenizer.model; transformers would always ask for tiktoken."""
    path = Path(where, "tokenizer.model")
    if not path.is_file() or path.with_name("tokenizer.json").is_file():
        return
    package, more = ("tiktoken", "") if is_tiktokens(path) else ("sentencepiece", " protobuf")
    wanted_by = f"the tokenizer.model at {where}, which has no tokenizer.json beside it"
    require_package(package, wanted_by, f"type: pip install {package}{more}")


def _refuse_tekken_alone(where: str) -> None:
    """Refuse a folder with tekken.json alone, which names no chat template and no end token; say how to convert it."""
    path = Path(where, "tekken.json")  # of a hub's files only those are known that somebody has asked for
    if not path.is_file() or path.with_name("tokenizer.json").is_file():
        return
    raise MissingFileError(
        f"expected tokenizer.json at {where}, found Mistral's tekken.json alone; type: pip install mistral-common, and "
        "in Python: from transformers.integrations.mistral import convert_tekken_tokenizer; "
        f'convert_tekken_tokenizer("{where}/tekken.json").save_pretrained("{where}")'
    )


def _name_special_tokens(tokenizer: PreTrainedTokenizerBase) -> None:
    """Name special tokens by the ids in the gguf file; transformers 5.17 takes the names from elsewhere."""
    for role in ("bos", "eos", "unk", "pad"):
        number = tokenizer.init_kwargs.get(f"{role}_token_id")
        if number is not None:
            setattr(tokenizer, f"{role}_token", tokenizer.convert_ids_to_tokens(number))
