"""Experiments and their tables; `make results`.

    PYTHONPATH=docs python -m results run embedded --jobs 2
    PYTHONPATH=docs python -m results run smollm2 --train xquad_train.json --test xquad_test.json
    PYTHONPATH=docs python -m results run smollm2-shared --train xquad_train.json --test xquad_test.json
    PYTHONPATH=docs python -m results run smollm2-elsewhere smollm2-longbench smollm2-book --samples FOLDER
    PYTHONPATH=docs python -m results run smollm2-twohop --train 2wiki_330.jsonl --test 2wiki_170.jsonl
    PYTHONPATH=docs python -m results run smollm2 --unpack FOLDER --train xquad_train.json --test xquad_test.json
    PYTHONPATH=docs python -m results list smollm2 --only 'orpo*'
    PYTHONPATH=docs python -m results table --write

Cells that have ended well are skipped, killed ones start anew, but for answers that are there. Large files lie in
`--work`, results in docs/results/stored, beside the resolved configuration of every training. `--pack FOLDER` keeps
what is worth to travel from a machine that is lent for minutes (8 archives of 16 MiB at most); `--unpack FOLDER` goes
on from it elsewhere.
"""

import argparse
import sys
from pathlib import Path

from results.cells import Settings
from results.outcomes import STORED, load
from results.packing import Pack, unpack
from results.running import Runner
from results.suites import SUITES, elsewhere, smollm2

# On a card cells share time, not only memory: with twelve, trainings of a minute took five and no evaluation ended.
# Asking takes as long as training (a minute of an H200, seven at a time): with two of seven, half the models were left.
_JOBS = {"cpu": 1, "gpu": 5}
TRAINED_ON_FILES = {suite.name for suite in (smollm2.SUITE, smollm2.TWO_HOP, smollm2.SHARED)}
_PAGE = Path(__file__).resolve().parents[2] / "RESULTS.md"
_README = _PAGE.with_name("README.md")


def run(options: argparse.Namespace) -> None:
    sampled = [suite.name for suite in elsewhere.SUITES if suite.name in options.suites]
    if sampled and not options.samples:
        sys.exit(f"error: expected a folder of samples for {sampled[0]}, got none; type --samples FOLDER")
    real = [name for name in options.suites if name in TRAINED_ON_FILES]
    missing = [name for name in ("train", "test") if not getattr(options, name)]
    if real and missing:
        sys.exit(
            f"error: expected files of questions for {real[0]}, got none for --{' and --'.join(missing)}; name them"
        )
    if len(real) > 1:
        sys.exit(
            f"error: expected one of {' and '.join(real)} at a time, as --train and --test are of one; run them in turn"
        )
    suites = {name: (SUITES[name], settings_of(options)) for name in options.suites}
    if options.unpack:
        unpack(options.unpack, options.work, options.stored)
    jobs = _JOBS[options.accelerator] if options.jobs is None else options.jobs
    runner = Runner(
        suites,
        jobs=jobs,
        cpu_jobs=jobs if options.cpu_jobs is None else options.cpu_jobs,
        evaluations=(jobs + 1) // 2 if options.evaluations is None else options.evaluations,
        minutes=options.minutes,
        patterns=options.only,
        start=options.start,
        pack=Pack(options.pack) if options.pack else None,
        stored=options.stored,
        commit=options.commit,
    )
    sys.exit(0 if runner.run() else 1)


def listed(options: argparse.Namespace) -> None:
    for name in options.suites:
        for cell in SUITES[name].cells(settings_of(options), options.only):
            print(f"{name}/{cell.key}: python -m {cell.program} {' '.join(cell.words)}")


def table(options: argparse.Namespace) -> None:
    from results import chosen, speed, summary
    from results.pages import replaced
    from results.saving import NAME, saving  # import what `run` leaves to its cells
    from results.tables import markdown

    page = options.page.read_text(encoding="utf-8")
    found = options.suites or [name for name in SUITES if load(options.stored / name)]
    texts = {name: markdown(SUITES[name], options.stored / name) for name in found}
    chosen_ones = {summary.NAME: summary.summary(options.stored), **chosen.tables(options.stored)}
    for name, text in {**texts, NAME: saving(), **speed.tables(), **chosen_ones}.items():
        page = replaced(page, name, text)
        print(text)
    if options.write:
        options.page.write_text(page, encoding="utf-8")
        first = _README.read_text(encoding="utf-8")
        for name, text in {speed.README: speed.readme(), **chosen.readme(options.stored)}.items():
            first = replaced(first, name, text)
        _README.write_text(first, encoding="utf-8")


def settings_of(options: argparse.Namespace) -> Settings:
    given = ("work", "accelerator", "train", "test", "model", "gguf_file", "toy", "batch_tokens", "dtype", "samples")
    return Settings(
        **{name: getattr(options, name) for name in given}, seeds=tuple(options.seeds), more=tuple(options.more)
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    for name, command in {"run": run, "list": listed}.items():
        part = commands.add_parser(name)
        part.set_defaults(command=command)
        part.add_argument("suites", nargs="+", choices=SUITES)
        part.add_argument("--only", nargs="+", default=[], help="patterns of cells")
        part.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
        part.add_argument("--work", type=Path, default=Path("runs/results"))
        part.add_argument("--accelerator", choices=("cpu", "gpu"), default="cpu", help="of the real suite")
        part.add_argument(
            "--train", default="", help="questions of a real suite: a SQuAD file, lines of 2WikiMultihopQA"
        )
        part.add_argument("--test", default="", help="others, about other articles")
        part.add_argument("--dtype", default="", help="of the real model; bfloat16 on a GPU, float32 on a CPU")
        part.add_argument("--samples", default="", help="folder of questions, books and LongBench's records")
        part.add_argument("--model", default=Settings.model, help="policy.source of the real suite")
        part.add_argument("--gguf-file", default=Settings.gguf_file, help="'' for a model that is none")
        part.add_argument("--more", action="append", default=[], help="--more=--policy.attention=sdpa and the like")
        part.add_argument("--batch-tokens", type=int, default=Settings.batch_tokens, help="asked at once, on a GPU")
        part.add_argument("--toy", action="store_true", help="a few questions and steps")
        part.add_argument("--stored", type=Path, default=STORED)
        if name == "run":
            part.add_argument("--jobs", type=int, default=None, help="cells of the real suite at a time; 5 on a GPU")
            part.add_argument("--evaluations", type=int, default=None, help="of them, those that only ask; half")
            part.add_argument("--cpu-jobs", type=int, default=None, help="cells of the embedded model beside them")
            part.add_argument("--minutes", type=float, default=None)
            part.add_argument("--start", choices=("forkserver", "spawn"), default="forkserver")
            part.add_argument("--pack", type=Path, default=None, help="folder of archives, renewed after every cell")
            part.add_argument("--unpack", type=Path, default=None, help="such a folder, from another machine")
            part.add_argument("--commit", default=None, help="of code that lies here without its history")
    part = commands.add_parser("table")
    part.set_defaults(command=table)
    part.add_argument("suites", nargs="*", choices=[*SUITES, []])
    part.add_argument("--write", action="store_true", help="between the markers of RESULTS.md; the README's, too")
    part.add_argument("--page", type=Path, default=_PAGE)
    part.add_argument("--stored", type=Path, default=STORED)
    return parser


if __name__ == "__main__":
    options = _parser().parse_args()
    options.command(options)
