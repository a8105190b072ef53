"""Needle in a haystack inside `fit`."""

from collections.abc import Sequence

from evaluation.batching import Batching
from evaluation.callback import BenchmarkCallback
from evaluation.needle import Haystack, NeedleBenchmark, TextHaystack


class NeedleCallback(BenchmarkCallback):
    """Needle-in-a-haystack accuracy before training, at validation and at the end of `fit`.

    Logs `benchmark/needle/<length>` and `benchmark/needle/mean`, a heat map and sample answers, and
    prints before and after side by side. Training is the same with and without it: random states
    are restored.

    Args:
        haystack: where needles and hay come from; `None` means plain prose (`TextHaystack`).
        lengths: tokens of the context.
        depths: relative positions of the needle.
        num_examples: questions in every (length, depth) cell.
        max_new_tokens: tokens of an answer at most.
        max_batch_tokens: padded prompt tokens of one generation batch.
        before_training: also run on the untrained policy.
        every_n_validations: run at every n-th validation; 0 means only before and after training.
        num_samples: answers shown as text.
    """

    def __init__(
        self,
        haystack: Haystack | None = None,
        lengths: Sequence[int] = (512, 1024, 2048, 4096),
        depths: Sequence[float] = (0.0, 0.25, 0.5, 0.75, 1.0),
        num_examples: int = 5,
        max_new_tokens: int = 16,
        max_batch_tokens: int = 16384,
        before_training: bool = True,
        every_n_validations: int = 1,
        num_samples: int = 8,
    ) -> None:
        benchmark = NeedleBenchmark(
            haystack or TextHaystack(),
            tuple(lengths),
            tuple(depths),
            num_examples,
            max_new_tokens,
        )
        super().__init__(
            benchmark,
            batching=Batching(max_batch_tokens),
            before_training=before_training,
            every_n_validations=every_n_validations,
            num_samples=num_samples,
        )
