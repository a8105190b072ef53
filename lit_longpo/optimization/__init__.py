"""How the policy is optimized: optimizers, what each of them asks for, and learning-rate schedules."""

from lit_longpo.optimization.fused import FusedAdamW
from lit_longpo.optimization.quantized import QuantizedAdamW
from lit_longpo.optimization.settings import Optimization, undecayed
from lit_longpo.optimization.steps import Taken, num_optimizer_steps

__all__ = ["FusedAdamW", "Optimization", "QuantizedAdamW", "Taken", "num_optimizer_steps", "undecayed"]
