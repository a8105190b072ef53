"""Every benchmark configuration of the papers, asked of SmolLM2-135M at lengths that a CPU allows; RULER by length.

What is asked is in `results.benchmark_files`; of each task one or two examples, prompts cut to 768 or 1,024 tokens
(RULER's are of 2,560), so that all of it takes about 20 minutes of a core. A killed cell goes on from its answers.
"""

from collections.abc import Iterator

from results.cells import Cell, Settings, Suite

Words = tuple[str, ...]

_MODEL, _FILES = "convert", "files"
_CUTS = {"logo": (768, 1), "longpo": (1024, 1), "solopo": (1024, 2)}  # tokens, examples of each of its tasks
_RULER_TASKS = (
    "niah_single_1",
    "niah_multikey_1",
    "niah_multikey_2",
    "vt",
    "fwe",
)  # XQuAD's questions do not fit 1,024
_LONG = 131072


def cells(settings: Settings) -> Iterator[Cell]:
    """Model and files, the papers, what costs least first, RULER."""
    here = settings.work / "benchmarks"
    gguf = ("--gguf-file", settings.gguf_file) if settings.gguf_file else ()
    source = ("--source", settings.model, *gguf, "--output", "{run}/model")
    yield Cell(_MODEL, source, program="results.convert", made=("model/model.safetensors",))
    samples, made = settings.samples, f"{here}/{_FILES}/made"
    words = ("--samples", samples, "--output", "{run}/made")
    yield Cell(_FILES, words, program="results.benchmark_files", made=("made/tasks/mmlu.yaml",))
    for paper in ("logo_short", "longpo_short", "solopo_short"):
        tasks = (f"--short_context.include_path={made}/tasks", "--limit=4")
        yield _cell(paper, settings, "short_context-step0", f"--config=configs/eval/papers/{paper}.yaml", *tasks)
    words = (f"--path={samples}/books/alice.txt", "--lengths=[256,512,1024,2048]", "--max_windows=4")
    config = "--config=configs/eval/papers/logo_perplexity.yaml"
    yield _cell("logo_perplexity", settings, "perplexity", config, *words, command="perplexity")
    for paper, options in _papers(settings).items():
        config = f"--config=configs/eval/papers/{paper}.yaml"
        tokens, examples = _CUTS[paper]
        cut = (f"--max_length={tokens}", f"--limit={examples}")
        yield _cell(paper, settings, f"{paper}_paper", config, *options, *cut)
    config = "--config=configs/eval/ruler.yaml"
    yield _cell("ruler", settings, "ruler-step0", config, *_ruler(settings), *_by_length(settings))
    words = ("--samples", samples, "--hotpotqa", f"{made}/hotpotqa.json", "--tokenizer", f"{here}/{_MODEL}/model")
    yield Cell(
        f"ruler-prompts-{_LONG}",
        (*words, "--length", str(_LONG), "--output", "{run}/counts.json"),
        program="results.ruler_prompts",
        after=(_MODEL, _FILES),
        shows="counts.json",
    )


def _cell(name: str, settings: Settings, report: str, *words: str, command: str = "evaluate") -> Cell:
    model = ("--model", f"{settings.work}/benchmarks/{_MODEL}/model", "--accelerator", settings.accelerator)
    words = (command, *words, *model, "--output", "{run}")
    return Cell(name.replace("_", "-"), words, after=(_MODEL, _FILES), shows=f"{report}.json")


def _ruler(settings: Settings, prefix: str = "benchmark") -> Words:
    files = {
        "squad": f"{settings.samples}/squad/xquad.en.json",
        "hotpotqa": f"{settings.work}/benchmarks/{_FILES}/made/hotpotqa.json",
    }
    return tuple(f"--{prefix}.{name}={path}" for name, path in files.items())


def _by_length(settings: Settings) -> Words:
    lengths, count = ("[512]", 1) if settings.toy else ("[1024,2048,4096]", 2)
    return (
        f"--benchmark.folder={settings.samples}/ruler",
        f"--benchmark.essays={settings.samples}/books/sherlock_holmes.txt",
        f"--benchmark.tasks=[{','.join(_RULER_TASKS)}]",
        f"--benchmark.lengths={lengths}",
        f"--benchmark.num_examples={count}",
    )


def _papers(settings: Settings) -> dict[str, Words]:
    samples, made = settings.samples, f"{settings.work}/benchmarks/{_FILES}/made"
    longbench, infinitebench = f"--paper.longbench={samples}/longbench", f"--paper.infinitebench={made}/infinitebench"
    ruler = (f"--paper.ruler={samples}/ruler", "--paper.lengths=[2560]", *_ruler(settings, "paper"))
    essays = f"--paper.essays={samples}/books/sherlock_holmes.txt"
    return {
        "logo": (longbench, infinitebench, f"--paper.lveval={made}/lveval"),
        "longpo": (infinitebench, *ruler, essays),
        "solopo": (longbench, f"--paper.longbench_v2={samples}/longbench_v2", *ruler),
    }


SUITE = Suite("benchmarks", cells)
