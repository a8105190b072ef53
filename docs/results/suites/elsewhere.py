"""Models of `smollm2-shared`, trained on XQuAD, answer two-hop questions of HotpotQA and MuSiQue: does the gain travel?

Nothing is trained here. Adapters lie where that suite has left them (`--work`); rows and the mean of both sets, over
which they are compared, were chosen before any of them was asked.
"""

from collections.abc import Iterator

from results.cells import Cell, Settings, Suite
from results.suites import smollm2

_NAME = "smollm2-elsewhere"
ROWS = ("sft-short", "orpo-long-2048"), ("sft-long-2048",)  # what is asked of every seed before what follows


def cells(settings: Settings) -> Iterator[Cell]:
    """The questions, seed by seed what is compared, then the model that all began as."""
    here, trained = settings.work / _NAME, settings.work / smollm2.SHARED.name
    few = ("--first", "2") if settings.toy else ()
    words = ("--samples", settings.samples, "--output", "{run}", *few)
    yield Cell("questions", words, program="results.other_questions", made=("questions.jsonl",))
    questions = here / "questions/questions.jsonl"
    for rows in ROWS:
        for seed in settings.seeds:
            for row in rows:
                model = trained / f"training-{row}-seed{seed}/model"
                yield Cell(row, smollm2.asking(settings, model, questions), seed=seed, after=("questions",))
    yield Cell("base", smollm2.asking(settings, trained / "convert/model", questions), after=("questions",))


SUITE = Suite(_NAME, cells)
