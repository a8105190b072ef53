"""A folder in which the names that pages use are there: FOLDER_OR_HUB_NAME, my_pairs.jsonl and so on."""

import random
import shutil
from dataclasses import replace
from pathlib import Path

from support import pages, reports
from support.chat_formats import chat_tokenizer
from support.qa_files import musique, write
from support.tiny_models import tiny_model

from data_modules.records import PreferencePair, write_pairs
from evaluation.reports.pages import Pages

MODELS = ("FOLDER_OR_HUB_NAME", "MODEL", "FOLDER", "runs/my_run/model", "runs/lightning_logs/version_0/model")
CHECKPOINT = "runs/lightning_logs/version_0/checkpoints/last.ckpt"
BUILDS = ("mine", *(f"{name}{model}" for name in ("solopo", "longpo", "logo") for model in ("", "_smollm2")))
PAIRS = ("my_pairs.jsonl", "PAIRS.jsonl", *(f"runs/build/{name}/pairs.jsonl" for name in BUILDS))
QUESTIONS = ("my_questions.jsonl", "questions.jsonl", "mine.jsonl")
SETS = ("musique_train.jsonl", "2wikimultihop_train.jsonl")
TEXTS = ("book.txt", "report.txt")
# What no page can have: a folder that only the reader knows, and where figures of RESULTS.md were made.
ELSEWHERE = ("/where/it/is/", "../shared/data/")


def words(count: int, draw: random.Random) -> str:
    """Text that the tiny model's tokenizer knows."""
    return " ".join(f"word{draw.randrange(40)}" for _ in range(count))


def pair(number: int, draw: random.Random) -> PreferencePair:
    """With an answer that is in both contexts."""
    short, long, rejected = words(5, draw), words(20, draw), ("word4", "word5")
    return PreferencePair(f"p{number}", "word1 word2", short, long, "word3", rejected, ("word3",))


def question(number: int, draw: random.Random) -> dict[str, object]:
    """One line of a file of questions."""
    return {"question": "word1 word2", "answers": ["word3"], "context": f"{words(20, draw)} word{number}"}


def make(folder: Path) -> Path:
    """Fill a folder; the checkpoint is an empty file."""
    draw = random.Random(0)
    tokenizer = chat_tokenizer("chatml")
    tiny_model("Llama", vocab_size=len(tokenizer)).save_pretrained(folder / MODELS[0])
    tokenizer.save_pretrained(folder / MODELS[0])
    for name in MODELS[1:]:
        shutil.copytree(folder / MODELS[0], folder / name)
    (folder / CHECKPOINT).parent.mkdir()
    (folder / CHECKPOINT).touch()
    for name in PAIRS:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        write_pairs(folder / name, [pair(number, draw) for number in range(20)])
    for name in QUESTIONS:
        write(folder / name, [question(number, draw) for number in range(20)])
    for name in SETS:
        write(folder / name, [musique(number) for number in range(20)])
    for name in ("before", "after"):
        report = replace(reports.needle(), model=name)
        path = next(path for path in Pages(report).write(folder / name) if path.suffix == ".json")
        (folder / "runs/short" / name).mkdir(parents=True)
        shutil.copy(path, folder / "runs/short" / name)
        path.rename(folder / f"{name}.json")
    for name in TEXTS:
        (folder / name).write_text(words(2000, draw))
    (folder / "capitals.py").write_text(pages.snippet("docs/evaluation.md", "## A benchmark of your own"))
    return folder


def missing(command: tuple[str, ...], folder: Path) -> list[str]:
    """Files that a command names to be read, and that neither the folder nor the repository has."""
    read = [word for option, word in zip(("", *command), command, strict=False) if option not in ("--output", "--json")]
    named = [path for word in read for path in _paths(word) if not path.startswith(ELSEWHERE)]
    return [path for path in named if not (folder / path).exists() and not (pages.ROOT / path).exists()]


def _paths(word: str) -> list[str]:
    """A word, or the entries of a list, that look like files."""
    if word.startswith("["):
        return [path for item in word.strip("[]").split(",") for path in _paths(item.strip())]
    return [word] if Path(word).suffix in (".jsonl", ".json", ".yaml", ".txt", ".ckpt") else []
