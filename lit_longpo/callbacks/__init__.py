"""What watches a run."""

from lightning.pytorch.callbacks import RichProgressBar

from lit_longpo.callbacks.non_finite import NonFiniteGuard
from lit_longpo.callbacks.save_pretrained import SavePretrained
from lit_longpo.callbacks.throughput import ThroughputCallback

__all__ = ["NonFiniteGuard", "RichProgressBar", "SavePretrained", "ThroughputCallback"]
