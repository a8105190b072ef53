"""Benchmarks inside `fit`, `validate` and `test` by a name of their own: own questions, needles, published ones."""

import logging
from collections.abc import Sequence
from typing import Any, Literal

from lightning.pytorch import LightningModule, Trainer

from evaluation.benchmarks.answer_metric import Metric
from evaluation.benchmarks.longbench import LongBench
from evaluation.benchmarks.longbench_v2 import LongBenchV2, Mode
from evaluation.benchmarks.lveval import LVEval
from evaluation.benchmarks.needle import NEEDLE, Haystack, NeedleBenchmark, Scoring, TextHaystack
from evaluation.benchmarks.needle_tasks import Sizes
from evaluation.benchmarks.pair_questions import ValidationQuestions, Which, holds_none_out
from evaluation.benchmarks.qa import QA
from evaluation.callbacks.benchmark import BenchmarkCallback
from evaluation.running.batching import Batching

log = logging.getLogger(__name__)


class NeedleCallback(BenchmarkCallback):
    """Needle-in-a-haystack accuracy before training, at validation and at the end of `fit`.

    It logs `benchmark/needle/<length>` and `benchmark/needle/mean`, for other tasks `benchmark/needle/<task>/<length>`,
    a heat map and sample answers, and prints before and after side by side. Training is the same with and without it:
    random states are restored.

    Args:
        haystack: where needles and hay come from; `None` means plain prose (`TextHaystack`).
        lengths: tokens of the context.
        depths: relative positions of the needle.
        num_examples: questions in every (length, depth) cell.
        max_new_tokens: tokens of an answer at most; `None` means what each task needs, 16 for "needle".
        max_batch_tokens: padded prompt tokens of one generation batch.
        tasks: of "needle", "multi_key", "multi_value", "multi_query", "variable_tracking".
        scoring: of the other tasks: the "share" of strings found, or 1 only if "all" are.
        sizes: how much the other tasks hide; `None` means the defaults.
        hay: text file between the facts of the other tasks; `None` means simple made-up sentences.
        needle_seed: of the other tasks.
        **options: of `BenchmarkCallback`. Its `seed` is that of the subset; a prompt longer than its `max_length` is
            refused, not cut.
    """

    def __init__(
        self,
        haystack: Haystack | None = None,
        lengths: Sequence[int] = (512, 1024, 2048, 4096),
        depths: Sequence[float] = (0.0, 0.25, 0.5, 0.75, 1.0),
        num_examples: int = 5,
        max_new_tokens: int | None = None,
        max_batch_tokens: int = 16384,
        *,
        tasks: Sequence[str] = (NEEDLE,),
        scoring: Scoring = "share",
        sizes: Sizes | None = None,
        hay: str | None = None,
        needle_seed: int = 0,
        **options: Any,
    ) -> None:
        benchmark = NeedleBenchmark(
            haystack=haystack or TextHaystack(),
            lengths=tuple(lengths),
            depths=tuple(depths),
            num_examples=num_examples,
            max_new_tokens=max_new_tokens,
            tasks=tuple(tasks),
            scoring=scoring,
            sizes=sizes or Sizes(),
            hay=hay,
            seed=needle_seed,
        )
        super().__init__(benchmark, tasks=None, batching=Batching(max_batch_tokens), **options)


class QACallback(BenchmarkCallback):
    """Your own questions: `benchmark/qa/{sub_em,f1,em}`, `benchmark/qa/<length>`, `benchmark/qa/mean`.

    Args:
        path: file of questions (see `QA`). `None` takes those of the run's own validation pairs (in `test`, of its test
            pairs), and asks nothing if the data module holds out none (`val_fraction: 0`).
        context: which context of preference pairs is read, "long" or "short".
        score_by: "sub_em", "f1" or "em"; "auto" is "sub_em" if all answers are gold, else "f1".
        question_template: how a question is given to the policy's template.
        max_new_tokens: tokens of an answer at most.
        first: take the first contexts, with all of their questions, until there are that many questions.
        lengths: lengths under which prompts are reported, each with the prompts up to it. Longer prompts, and all
            prompts if there are none, are reported by powers of two.
        num_depths: number of equal parts of a context to which depths are rounded.
        **options: of `BenchmarkCallback`; `limit` chooses whole contexts at random, or a part of one.
    """

    def __init__(
        self,
        path: str | None = None,
        context: Which = "long",
        score_by: Literal["auto", "sub_em", "f1", "em"] = "auto",
        question_template: str = "{question}",
        max_new_tokens: int = 64,
        first: int | None = None,
        lengths: Sequence[int] = (),
        num_depths: int = 5,
        **options: Any,
    ) -> None:
        own = ValidationQuestions(context, first) if path is None else None
        benchmark = QA(
            path=path,
            questions=own,
            context=context,
            score_by=score_by,
            question_template=question_template,
            max_new_tokens=max_new_tokens,
            first=first,
            lengths=tuple(lengths),
            num_depths=num_depths,
        )
        super().__init__(benchmark, tasks=None, **options)
        self._own = own

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Also read the run's own questions."""
        super().setup(trainer, pl_module, stage)
        if self._own is None:
            return
        self.is_off = stage != "test" and holds_none_out(trainer.datamodule)  # type: ignore[attr-defined]
        if not self.is_off:
            self._own.read(trainer, "test" if stage == "test" else "val")
        elif trainer.is_global_zero:
            log.warning(
                "%s: nothing is asked, as `val_fraction: 0` leaves no validation pairs; to ask a file of yours, type "
                "--trainer.callbacks+ QACallback --trainer.callbacks.path FILE --trainer.callbacks.label own",
                self.title,
            )


class LongBenchCallback(BenchmarkCallback):
    """LongBench or LongBench-E: `benchmark/longbench/<task>`, `benchmark/longbench_e/<task>/<length>`.

    Args:
        folder: in the official layout; `None` downloads it (see `evaluation.benchmarks.downloads`).
        extended: run LongBench-E.
        metric: "official", or "sub_em", "f1", "em" of tasks with short answers.
        **options: of `BenchmarkCallback`.
    """

    def __init__(
        self, folder: str | None = None, extended: bool = False, metric: Metric = "official", **options: Any
    ) -> None:
        super().__init__(LongBench(folder, extended=extended, metric=metric), **options)


class LongBenchV2Callback(BenchmarkCallback):
    """LongBench v2: `benchmark/longbench_v2/{Overall,Easy,Hard,Short,Medium,Long}`.

    Args:
        folder: in the official layout; `None` downloads it (see `evaluation.benchmarks.downloads`).
        mode: "zero_shot", "chain_of_thought" or "no_context".
        **options: of `BenchmarkCallback`.
    """

    def __init__(self, folder: str | None = None, mode: Mode = "zero_shot", **options: Any) -> None:
        super().__init__(LongBenchV2(folder, mode=mode), **options)


class LVEvalCallback(BenchmarkCallback):
    """LV-Eval: `benchmark/lveval/<dataset>_<level>`.

    Args:
        folder: in the official layout; `None` downloads it (see `evaluation.benchmarks.downloads`).
        datasets: which ones; `None` means all.
        levels: which ones, for example `[16k, 32k]`; `None` means all.
        metric: "official", or "sub_em", "f1", "em" of tasks with short answers.
        **options: of `BenchmarkCallback`.
    """

    def __init__(
        self,
        folder: str | None = None,
        datasets: list[str] | None = None,
        levels: list[str] | None = None,
        metric: Metric = "official",
        **options: Any,
    ) -> None:
        super().__init__(LVEval(folder, datasets=datasets, levels=levels, metric=metric), **options)
