"""Which files make a folder a model for transformers, or adapters for peft."""

from pathlib import Path

MODEL_FILES = ("config.json", "adapter_config.json")


def holds_model(folder: Path) -> bool:
    """Whether a model or adapters lie in the folder."""
    return any((folder / name).is_file() for name in MODEL_FILES)
