"""Published benchmarks inside `fit`, `validate` and `test` whose files the user names."""

from collections.abc import Mapping, Sequence
from typing import Any

from evaluation.benchmarks.answer_metric import Metric
from evaluation.benchmarks.babilong import BABILong
from evaluation.benchmarks.graphwalks import GraphWalks
from evaluation.benchmarks.infinitebench import InfiniteBench, Templates
from evaluation.benchmarks.longbench_pro import LongBenchPro
from evaluation.benchmarks.mrcr import MRCR
from evaluation.benchmarks.ruler.averages import LENGTHS
from evaluation.benchmarks.ruler.benchmark import RULER
from evaluation.callbacks.benchmark import BenchmarkCallback


class InfiniteBenchCallback(BenchmarkCallback):
    """InfiniteBench: `benchmark/infinitebench/<task>`, `benchmark/infinitebench/average/LongPO`.

    Args:
        folder: with `<task>.jsonl` files, as on the hub.
        prompts: the official `prompt.py`; `None` looks for it in the folder.
        templates: "gpt4" or "yarn_mistral".
        new_tokens: tasks with longer answers, for example `{math_find: 32}`.
        metric: "official", or "sub_em", "f1", "em" of tasks with short answers.
        tasks: which ones; `None` means all that have a file.
        **options: of `BenchmarkCallback`.
    """

    def __init__(
        self,
        folder: str,
        prompts: str | None = None,
        templates: Templates = "gpt4",
        new_tokens: Mapping[str, int] | None = None,
        metric: Metric = "official",
        tasks: list[str] | None = None,
        **options: Any,
    ) -> None:
        asked = {"templates": templates, "tasks": tasks, "new_tokens": new_tokens, "metric": metric}
        super().__init__(InfiniteBench(folder, prompts, **asked), tasks=None, **options)  # type: ignore[arg-type]


class RULERCallback(BenchmarkCallback):
    """RULER: `benchmark/ruler/<task>/<length>`, `benchmark/ruler/length/<length>`, `benchmark/ruler/category/NIAH`.

    Args:
        folder: `scripts` of NVIDIA/RULER.
        lengths: tokens of prompt and answer.
        num_examples: of each task and length.
        essays: text for the five tasks with essays.
        squad: SQuAD 2.0's dev file, for qa_1.
        hotpotqa: HotpotQA's dev file of the distractor setting, for qa_2.
        words: folder of word lists.
        english_words: a longer list, for cwe.
        ruler_seed: of everything that is drawn.
        tasks: which of the 13; `None` means all whose files are there.
        **options: of `BenchmarkCallback`; its `seed` is that of the subset.
    """

    def __init__(
        self,
        folder: str,
        lengths: Sequence[int] = LENGTHS,
        num_examples: int = 500,
        essays: str | None = None,
        squad: str | None = None,
        hotpotqa: str | None = None,
        words: str | None = None,
        english_words: str | None = None,
        ruler_seed: int = 42,
        tasks: list[str] | None = None,
        **options: Any,
    ) -> None:
        texts = {"essays": essays, "squad": squad, "hotpotqa": hotpotqa, "words": words, "english_words": english_words}
        made = RULER(folder, tasks=tasks, lengths=lengths, num_examples=num_examples, seed=ruler_seed, **texts)
        super().__init__(made, tasks=None, **options)


class BABILongCallback(BenchmarkCallback):
    """BABILong: `benchmark/babilong/<task>/<length>`.

    Args:
        path: the hub's folder, with files such as `qa1/4k.json`.
        prompts: the official file of booydar/babilong.
        lengths: for example `[0k, 4k]`; `None` means all that are there.
        max_new_tokens: tokens of an answer at most; officially 20.
        **options: of `BenchmarkCallback`.
    """

    def __init__(
        self,
        path: str,
        prompts: str,
        lengths: Sequence[str] | None = None,
        max_new_tokens: int = 20,
        **options: Any,
    ) -> None:
        super().__init__(BABILong(path, prompts, lengths, max_new_tokens), **options)


class GraphWalksCallback(BenchmarkCallback):
    """GraphWalks: `benchmark/graphwalks/{bfs,parents}`.

    Args:
        path: .parquet, .json or .jsonl, or a folder of them.
        max_chars: longer prompts are left out.
        max_new_tokens: tokens of an answer at most.
        **options: of `BenchmarkCallback`.
    """

    def __init__(self, path: str, max_chars: int | None = None, max_new_tokens: int = 16_384, **options: Any) -> None:
        super().__init__(GraphWalks(path, max_chars, max_new_tokens), **options)


class MRCRCallback(BenchmarkCallback):
    """OpenAI-MRCR: `benchmark/mrcr/<needles>`.

    Args:
        path: .parquet, .json or .jsonl, or a folder of them.
        max_chars: longer conversations are left out.
        max_new_tokens: tokens of an answer at most.
        **options: of `BenchmarkCallback`.
    """

    def __init__(self, path: str, max_chars: int | None = None, max_new_tokens: int = 4096, **options: Any) -> None:
        super().__init__(MRCR(path, max_chars, max_new_tokens), **options)


class LongBenchProCallback(BenchmarkCallback):
    """LongBench Pro: `benchmark/longbench_pro/<task>`.

    Args:
        path: .json, .jsonl or .parquet, or a folder of them.
        thinking: the question that asks for reasoning first.
        max_new_tokens: tokens of an answer at most; `None` means 1,024, with thinking 32,768.
        **options: of `BenchmarkCallback`.
    """

    def __init__(self, path: str, thinking: bool = False, max_new_tokens: int | None = None, **options: Any) -> None:
        super().__init__(LongBenchPro(path, thinking, max_new_tokens), **options)
