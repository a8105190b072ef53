"""What models of `smollm2-shared`, trained on XQuAD, do elsewhere: does the gain travel, and what is forgotten?

- `smollm2-elsewhere`: two-hop questions of HotpotQA and MuSiQue;
- `smollm2-longbench`: LongBench's English questions in its own prompts, those records of it that are at hand;
- `smollm2-book`: perplexity of a novel, at lengths that the first model has read well.

Nothing is trained here. Adapters lie where that suite has left them (`--work`); rows and what they are compared by were
chosen before any of them was asked.
"""

from collections.abc import Iterator
from pathlib import Path

from results.cells import Cell, Settings, Suite
from results.suites import smollm2

TWO_HOP_ROWS = ("sft-short", "orpo-long-2048"), ("sft-long-2048",)  # asked of every seed before what follows
ROWS = ("sft-short", "orpo-long-1024"), ("longpo-answer-1024", "orpo-long-2048")
TASKS = ("narrativeqa", "qasper", "multifieldqa_en", "hotpotqa", "2wikimqa", "musique")
_BOOK = "alice.txt"


def _two_hop(settings: Settings) -> Iterator[Cell]:
    """The questions, seed by seed what is compared, then the model that all began as."""
    few = ("--first", "2") if settings.toy else ()
    words = ("--samples", settings.samples, "--output", "{run}", *few)
    yield Cell("questions", words, program="results.other_questions", made=("questions.jsonl",))
    questions = settings.work / f"{TWO_HOP.name}/questions/questions.jsonl"
    for name, seed, model in _models(settings, TWO_HOP_ROWS):
        yield Cell(name, smollm2.asking(settings, model, questions), seed=seed, after=("questions",))


def _longbench(settings: Settings) -> Iterator[Cell]:
    words = (
        *("evaluate", "--config", "configs/eval/longbench.yaml", "--output", "{run}"),
        *("--accelerator", settings.accelerator, "--policy.dtype", smollm2.dtype_of(settings)),
        *("--benchmark.folder", f"{settings.samples}/longbench", "--benchmark.metric", "sub_em"),
        *("--tasks", f"[{','.join(TASKS[-1:] if settings.toy else TASKS)}]", "--max_length", "4096"),
        *smollm2.batching(settings),
    )
    for name, seed, model in _models(settings, ROWS):
        yield Cell(name, (*words, "--policy.source", str(model)), seed=seed)


def _book(settings: Settings) -> Iterator[Cell]:
    words = ("--book", f"{settings.samples}/books/{_BOOK}", "--output", "{run}")
    yield Cell("text", words, program="results.other_questions", made=("book.txt",))
    words = (
        *("perplexity", "--config", "configs/eval/perplexity.yaml", "--output", "{run}"),
        *("--path", f"{settings.work}/{BOOK.name}/text/book.txt", "--lengths", "[256,512,1024,2048]"),
        *("--max_windows", "1" if settings.toy else "20", "--accelerator", settings.accelerator),
        *("--policy.dtype", smollm2.dtype_of(settings)),
    )
    for name, seed, model in _models(settings, ROWS):
        asked = (*words, "--policy.source", str(model))
        yield Cell(name, asked, seed=seed, after=("text",), shows="perplexity.json")


def _models(settings: Settings, groups: tuple[tuple[str, ...], ...]) -> Iterator[tuple[str, int, Path]]:
    """Rows, seeds and folders, the model that all began as at the end."""
    trained = settings.work / smollm2.SHARED.name
    for rows in groups:
        for seed in settings.seeds:
            yield from ((row, seed, trained / f"training-{row}-seed{seed}/model") for row in rows)
    yield "base", 0, trained / "convert/model"


TWO_HOP = Suite("smollm2-elsewhere", _two_hop)
LONGBENCH = Suite("smollm2-longbench", _longbench)
BOOK = Suite("smollm2-book", _book)
SUITES = (TWO_HOP, LONGBENCH, BOOK)
