"""A folder in which the names that pages use are there: FOLDER_OR_HUB_NAME, my_pairs.jsonl and so on."""

import random
import shutil
from dataclasses import replace
from pathlib import Path

from support import made_up_records, official_layout, pages, reports, ruler_files
from support.byte_tokenizer import CHAT, byte_model
from support.harness_tasks import colours
from support.qa_files import hotpotqa, musique, squad, write

from data_modules.records import PreferencePair, write_pairs
from evaluation.metrics.longbench import TASKS
from evaluation.reports.pages import Pages

MODELS = (
    *("FOLDER_OR_HUB_NAME", "HUB_NAME", "MODEL", "FOLDER", "BEFORE", "AFTER"),
    *("runs/my_run/model", "runs/pretrain_tiny/model", "runs/lightning_logs/version_0/model"),
)
CHECKPOINT = "runs/lightning_logs/version_0/checkpoints/last.ckpt"
BUILDS = ("mine", *(f"{name}{model}" for name in ("solopo", "longpo", "logo") for model in ("", "_chat", "_smollm2")))
PAIRS = ("my_pairs.jsonl", "PAIRS.jsonl", "FILE", *(f"runs/build/{name}/pairs.jsonl" for name in BUILDS))
QUESTIONS = ("my_questions.jsonl", "questions.jsonl", "mine.jsonl")
SETS = ("musique_train.jsonl", "2wikimultihop_train.jsonl")
TEXTS = ("book.txt", "report.txt", "books/1.txt", "books/2.txt", "pg19/test/1.txt", "pg19/test/2.txt")
# What no page can have: a folder that only the reader knows, and where figures of RESULTS.md were made.
ELSEWHERE = ("/where/it/is/", "../shared/data/")


def words(count: int, draw: random.Random) -> str:
    """As many words."""
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
    byte_model(folder / MODELS[0], chat_template=CHAT, max_position_embeddings=65536)
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
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(words(700, draw))
    (folder / "alice.txt").write_text(f"Head *** START {words(500, draw)} *** END foot")
    benchmarks(folder)
    (folder / "capitals.py").write_text(pages.snippet("docs/evaluation.md", "## A benchmark of your own"))
    return folder


def benchmarks(folder: Path) -> None:
    """What a reader downloads: records of ours in the official layouts, under the names of the pages."""
    for name in ("longbench", "longbench_v2", "lveval", "mrcr", "DATA"):
        (folder / name).mkdir()
    official_layout.longbench(folder / "longbench", dict.fromkeys(TASKS, 2), tokens=2)
    official_layout.longbench_v2(folder / "longbench_v2", 3)
    official_layout.lveval(folder / "lveval", 2, tokens=2)
    official_layout.infinitebench(folder / "DATA", 2)
    ruler_files.layout(folder / "RULER/scripts")
    made_up_records.graphwalks(folder)
    made_up_records.mrcr(folder / "mrcr")
    made_up_records.babilong(folder)
    made_up_records.longbench_pro(folder)
    colours(folder / "tasks", "colours")
    write(folder / "dev-v2.0.json", squad(9))
    write(folder / "hotpot.json", [hotpotqa(number) for number in range(9)])
    write(folder / "corpus.json", [{"title": f"T{number}", "text": f"Number {number}."} for number in range(99)])


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
