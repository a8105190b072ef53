"""What is killed: commands of ours on tiny models, each with what makes its input and how it is asked again."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

HERE = Path(__file__).parent
_CONFIGS = HERE.parents[1] / "configs"
OBJECTIVES = ("sft", "dpo", "ipo", "simpo", "orpo", "solopo", "longpo", "logo")


@dataclass(frozen=True)
class Cell:
    """A command that is killed.

    Args:
        command: of the four.
        name: what is special about it.
        words: of the command; `{run}` is the folder that it writes into, `{input}` one that is made before.
        again: words that are added when it is run again.
        input: commands that make its input, never killed.
        num_ranks: processes.
        tolerance: of numbers against the undisturbed run.
        fresh: whether it imports everything itself, and is killed in that, too.
    """

    command: str
    name: str
    words: tuple[str, ...]
    again: tuple[str, ...] = ()
    input: tuple[str, ...] = ()
    num_ranks: int = 1
    tolerance: float = 0.0
    fresh: bool = False

    @property
    def key(self) -> str:
        """A name for files."""
        return f"{self.command}-{self.name}".replace(" ", "-")


def cells() -> Iterator[Cell]:
    """All of them."""
    for name in OBJECTIVES:
        turns = ("--data.num_rejected", "2") if name == "logo" else ()
        yield _fit(name, "--model", str(_CONFIGS / f"objective/{name}.yaml"), *turns)
    yield _fit("dpo online", "--reference.mode", "online")
    yield _fit("dpo LoRA", *_LORA)
    yield _fit("dpo LoRA online", *_LORA, "--reference.mode", "online")
    for strategy in ("ddp", "fsdp2", "zero3"):
        yield _fit(f"dpo {strategy}", "--config", str(HERE / f"{strategy}.yaml"), num_ranks=2)
    yield _fit("dpo LoRA zero3", "--config", str(HERE / "zero3.yaml"), *_LORA, num_ranks=2)
    yield replace(_fit("fresh process", "--model", str(_CONFIGS / "objective/sft.yaml")), fresh=True)
    for recipe in ("solopo", "longpo", "logo"):
        yield _build(recipe)
    yield Cell("evaluate", "needle", _NEEDLE)
    yield _export("full")
    yield _export("LoRA", *_LORA)


_FIT = (
    *("fit", "--config", str(HERE / "fit.yaml"), "--data.num_train", "16", "--data.num_val", "4"),
    *("--data.short_words", "16", "--data.long_words", "[24,48]"),
)
_LORA = ("--policy.lora.r", "2", "--policy.lora.dropout", "0.2")
_NEEDLE = (
    *("evaluate", "--config", str(_CONFIGS / "eval/needle.yaml"), "--output", "{run}"),
    *("--benchmark.lengths", "[64,128]", "--benchmark.num_examples", "2", "--benchmark.max_new_tokens", "3"),
    *("--benchmark.haystack", "data_modules.WorldHaystack", "--benchmark.tasks", "[needle]"),
    *("--batching.max_batch_tokens", "512", "--accelerator", "cpu"),
)


def _fit(name: str, *words: str, num_ranks: int = 1) -> Cell:
    rows = ("--data.max_examples", str(4 // num_ranks), "--data.token_cache", "{run}/token_cache")
    place = ("--trainer.default_root_dir", "{run}")
    tolerance = 1e-6 if num_ranks > 1 else 0.0
    again = ("--ckpt_path", "last")
    return Cell("fit", name, (*_FIT, *rows, *place, *words), again, num_ranks=num_ranks, tolerance=tolerance)


def _build(name: str) -> Cell:
    few = ("--source.count", "4", "--window", "2")
    config = str(_CONFIGS / f"build/{name}.yaml")
    return Cell("build", name, ("build", "--config", config, "--output", "{run}", *few))


def _export(name: str, *words: str) -> Cell:
    trained = (*_FIT, "--data.max_examples", "4", "--trainer.default_root_dir", "{input}", *words)
    checkpoint = "{input}/lightning_logs/version_0/checkpoints/last.ckpt"
    return Cell("export", name, ("export", "--checkpoint", checkpoint, "--output", "{run}/model"), input=trained)
