"""Libraries' words to their developers, which a user can do nothing about: left out by how they begin.

Whatever else a library says is shown. `python -W default` and PYTHONWARNINGS have the last word on warnings.
"""

import logging
import os
import re
import sys
import warnings
from dataclasses import dataclass


@dataclass(frozen=True)
class _LeftOut(logging.Filter):
    """Lets every line of a log pass but some."""

    beginnings: tuple[str, ...]

    def filter(self, record: logging.LogRecord) -> bool:
        return not record.getMessage().startswith(self.beginnings)


# How they begin, and who is the cause, so that somebody can see whether it still is.
_WARNINGS: tuple[tuple[type[Warning], str], ...] = (
    (UserWarning, "'set_vital' is deprecated"),  # torchdata 0.11 calls what torch 2.13 deprecates
    (FutureWarning, "`isinstance(treespec, LeafSpec)` is deprecated"),  # Lightning 2.6's pytrees
    (UserWarning, "The dirpath has changed from "),  # Lightning 2.6, wherever a resumed run keeps its checkpoints
    # peft 0.21 sets rank and scale of stacked experts, uses them, and looks for modules of that name alone.
    (RuntimeWarning, "The following rank_pattern keys did not match any targeted module"),
    (RuntimeWarning, "The following alpha_pattern keys did not match any targeted module"),
    # Lightning 2.6 on machines of many cores, by its own name for `data.num_workers`; batches are packed from stored
    # tokens, and `perf/data_seconds` says what a step waits for them.
    (UserWarning, "The 'train_dataloader' does not have many workers"),
    (UserWarning, "The 'val_dataloader' does not have many workers"),
    # DeepSpeed 0.19 calls what torch 2.13 deprecates.
    (FutureWarning, "`torch.distributed.all_gather_into_tensor` is"),
    (FutureWarning, "`torch.distributed.reduce_scatter_tensor` is"),
    (FutureWarning, "`is_gradient_checkpointing` is deprecated"),  # peft 0.21 asks models of transformers 5
    # Lightning 2.6 where nothing is held out, as asked.
    (UserWarning, "Total length of `list` across ranks is zero. Please"),
)
# Lines of logs, likewise.
_LINES = {
    # Its guess of a device without a GPU, wherever it is installed and transformers writes a model; its words on every
    # optimizer but its own.
    "DeepSpeed": _LeftOut(("Setting accelerator to CPU", "**** You are using ZeRO with an untested optimizer")),
    "bitsandbytes.backends.cpu.ops": _LeftOut(("Failed to load CPU gemm_4bit_forward",)),  # at its import on CPUs
    "transformers.tokenization_utils_tokenizers": _LeftOut(("The tokenizer you are loading from",)),  # mistral_rules.py
    # Its advertisement of a service, at every start; its advice to round what fp32 products read to TF32, which the
    # checks of packed rows do not allow for.
    "lightning.pytorch.utilities.rank_zero": _LeftOut(
        ("\N{ELECTRIC LIGHT BULB} Tip: For seamless cloud", "You are using a CUDA device")
    ),
    "lightning.fabric.utilities.seed": _LeftOut(("[rank: ",)),  # one seed, once more for every process
    # An argument of its own function that Ctrl-C's checkpoint leaves out.
    "lightning.pytorch.trainer.connectors.checkpoint_connector": _LeftOut(("`weights_only` was not set",)),
    # Words to whoever hands it a model that is loaded, as we do.
    "lm_eval.models.huggingface": _LeftOut(
        ("`pretrained` model kwarg is not of type `str`", "Passed an already-initialized model through `pretrained`")
    ),
    "huggingface_hub.repocard": _LeftOut(("Repo card metadata block was not found",)),  # of a README beside data
}


def hide_hub_bars() -> None:
    """Hide huggingface_hub's bars and those of transformers' loading, unless the user has asked for them."""
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")


def quieten_libraries() -> None:
    """Leave out the words listed here in this process from now on; filters that the user gave stay in front.

    Libraries that are imported later draw bars on terminals alone: transformers' of weights filled logs.
    """
    if sys.stderr is None or not sys.stderr.isatty():
        hide_hub_bars()
    for category, beginning in _WARNINGS:
        warnings.filterwarnings("ignore", re.escape(beginning), category, append=True)
    for name, left_out in _LINES.items():
        logging.getLogger(name).addFilter(left_out)
