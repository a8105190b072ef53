"""Checkpoints that no training wrote, harm that comes to them, and a trainer that refuses them before it starts."""

import torch
from lightning.pytorch import LightningModule

from lit_longpo.checkpoints import ResumableTrainer
from lit_longpo.checkpoints.whole import complete, partial_name


def save_file(path, value=1):
    torch.save({"state_dict": {"weight": torch.full((100,), float(value))}}, partial_name(path))
    complete(partial_name(path), path, "SingleDeviceStrategy", 1)
    return path


def save_folder(path, value=1, marker="latest"):
    partial = partial_name(path)
    (partial / "checkpoint").mkdir(parents=True)
    (partial / marker).write_text("checkpoint")
    torch.save(torch.full((100,), float(value)), partial / "checkpoint" / "rank0.pt")
    complete(partial, path, "AnyDeviceDeepSpeedStrategy", 2)
    return path


def cut(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def tensor_bytes(path):
    """Where the weights lie in a file: all ones."""
    raw = path.read_bytes()
    return raw, raw.index(torch.ones(4).numpy().tobytes())


def flip(path):
    raw, start = tensor_bytes(path)
    path.write_bytes(raw[:start] + bytes([raw[start] ^ 1]) + raw[start + 1 :])


def hole(path):
    raw, start = tensor_bytes(path)
    path.write_bytes(raw[:start] + bytes(300) + raw[start + 300 :])


class Nothing(LightningModule):
    """Never trained: the refusal comes first."""


def trainer(folder, **options):
    return ResumableTrainer(accelerator="cpu", logger=False, default_root_dir=folder, **options)
