"""Lightning callbacks of a run: speed, memory, NaN guard, saved models, summaries."""

from lightning.pytorch.callbacks import RichProgressBar

from lit_longpo.callbacks.host_memory import HostMemory
from lit_longpo.callbacks.non_finite import NonFiniteGuard
from lit_longpo.callbacks.progress import TrainingProgressBar
from lit_longpo.callbacks.record_account import RecordAccount
from lit_longpo.callbacks.run_summary import RunSummary
from lit_longpo.callbacks.save_pretrained import SavePretrained
from lit_longpo.callbacks.throughput import ThroughputCallback

__all__ = [
    "HostMemory",
    "NonFiniteGuard",
    "RecordAccount",
    "RichProgressBar",
    "RunSummary",
    "SavePretrained",
    "ThroughputCallback",
    "TrainingProgressBar",
]
