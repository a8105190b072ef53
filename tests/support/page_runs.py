"""How each command of the pages runs here: what stands for weights and downloads, fewer steps, and what cannot run."""

import shlex
from collections.abc import Iterator
from dataclasses import dataclass

from support.page_commands import Line, help_lines, inline_lines, page_lines, recipe_lines, table_lines


@dataclass(frozen=True)
class NotRun:
    """A command that this machine cannot run, or that a test must not.

    Args:
        part: of the line, as words.
        reason: why not.
        instead: the test of what comes nearest, `file::function`, or the command of a page.
    """

    part: str
    reason: str
    instead: str


_LAUNCHING = "tests/lit_longpo/strategies/test_launching.py::test_two_processes_leave_one_set_of_files"
_PARITY = "tests/lit_longpo/strategies/test_parity.py::test_losses_gradients_weights_and_answers_equal_one_process"
_GPUS = "a GPU for each process"
_TARGETS = "tests/docs/test_commands.py::test_make_knows_its_targets"
_EXTRAS = "tests/docs/test_commands.py::test_extras_that_pages_install_are_ours"
_HELP = "tests/lit_longpo/help/test_stored.py::test_it_is_what_the_parser_prints"
_SUITES = "tests/docs/test_results.py::test_finished_cells_are_skipped_and_killed_ones_start_anew"
_PICTURES = "tests/docs/test_pictures.py::test_the_script_photographs_page_and_curves"
_TOYS = "tests/docs/test_benchmarks.py::test_every_case_runs_at_toy_size"
_FAMILIES = "tests/test_readme.py::test_the_table_of_families_is_what_their_twins_do"
_KILLS = "tests/faults/test_kills.py::test_a_killed_command_gives_what_an_undisturbed_one_does"
_TWIN = "tests/configs/test_models.py::test_the_twin_trains_in_packed_rows"
_PAGES = "tests/lit_longpo/loggers/test_pages.py::test_wandb_has_them_all"
_LIGER = "tests/lit_longpo/engine/test_layer_kernels.py::test_what_liger_has_a_kernel_for_is_found_by_its_formula"
_TOKENIZER = (
    "tests/lit_longpo/export/test_earlier_tokenizers.py::"
    "test_a_tokenizer_model_comes_along_with_the_tokens_that_are_added"
)
_SERVED = "tests/evaluation/served/test_served.py::test_a_served_model_and_the_same_one_here"
NOT_RUN = (
    NotRun("pip install", "changes the environment", _EXTRAS),
    NotRun("make demo", "an environment of its own", "fit --config configs/solopo.yaml"),
    NotRun("make check", "the tools of a developer, over everything", _TARGETS),
    NotRun("make test", "this suite", _TARGETS),
    NotRun("make help", "writes into the repository", _HELP),
    NotRun("make results", "hours of training", _SUITES),
    NotRun("python docs/pictures/make.py", "a browser", _PICTURES),
    NotRun("tensorboard ", "a server of pictures", _PICTURES),
    NotRun("make bars", "an idle machine for 20 minutes", _TOYS),
    NotRun("make families", "writes into the README", _FAMILIES),
    NotRun("make kills", "half an hour of killed processes", _KILLS),
    NotRun("make bench", "an idle machine for minutes", _TOYS),
    NotRun("-m benchmarks.", "an idle machine, or a GPU", _TOYS),
    NotRun("srun ", "SLURM", _LAUNCHING),
    NotRun("--nproc_per_node 2", "processes, which a test of their own starts", _LAUNCHING),
    NotRun("--nnodes 2", "two machines, " + _GPUS, _LAUNCHING),
    NotRun("--nproc_per_node 8", _GPUS, _PARITY),
    NotRun("overlays/deepspeed_zero3", _GPUS, _PARITY),
    NotRun("qwen2.5_7b.yaml", "weights of 15 GB", _TWIN),
    NotRun("WandbLogger", "an account", _PAGES),
    NotRun("layer_kernels liger", "a GPU", _LIGER),
    NotRun("--server ", "a server", _SERVED),
    NotRun("convert_hf_to_gguf.py", "a clone of llama.cpp", _TOKENIZER),
)

# Words of a page, and what stands for them.
STAND_INS = {
    "configs/model/smollm2_135m.yaml": "FOLDER",
    "/where/it/is/musique_train.jsonl": "musique_train.jsonl",
    "../shared/data/multihop/musique_train_100.jsonl": "musique_train.jsonl",
    "../shared/data/multihop/musique_train_corpus.json": "corpus.json",
    "graphwalks_128k_and_shorter.parquet": "graphwalks.parquet",
    "my.yaml": "dpo",
    "last.ckpt": "runs/lightning_logs/version_0/checkpoints/last.ckpt",
    "my_file.MyBenchmark": "capitals.Capitals",
}
# The same, where the word means something else to each command.
FOLDER_OR_FILE = {"graphwalks": "graphwalks.parquet", "mrcr": "mrcr", "perplexity": "books"}

_WEIGHTS = "--policy.source FOLDER --policy.gguf_file null"
_LONGBENCH = "--paper.longbench longbench"
# What is typed behind a line that holds the words: one for each line that has them.
ADDED = {
    "overlays/smollm2_musique": _WEIGHTS,
    "build/solopo_smollm2": _WEIGHTS,
    "--recipe SoLoPORecipe": f"{_WEIGHTS} --recipe.samples 2 --recipe.decoding.max_new_tokens 8",
    "build/longpo_smollm2": f"{_WEIGHTS} --verifiers []",
    "build/logo_smollm2": _WEIGHTS,
    "eval/longbench.yaml": "--benchmark.folder longbench --tasks [hotpotqa,trec]",
    "eval/longbench_v2.yaml --model runs": "--benchmark.folder longbench_v2",
    "eval/lveval.yaml": "--benchmark.folder lveval --benchmark.datasets [factrecall_en]",
    "eval/infinitebench.yaml": "--benchmark.tasks [passkey] --max_length 300",
    "eval/graphwalks.yaml": "--benchmark.max_new_tokens 4",
    "eval/mrcr.yaml": "--benchmark.max_new_tokens 4",
    "eval/longbench_pro.yaml": "--benchmark.max_new_tokens 4",
    "eval/babilong.yaml": "--benchmark.max_new_tokens 4",
    "eval/ruler.yaml": "--benchmark.tasks [niah_single_1] --benchmark.lengths [1024]",
    "papers/longpo.yaml": "--paper.size cpu --paper.lengths [2048] --max_length 300",
    "papers/logo.yaml": f"{_LONGBENCH} --paper.lveval null --paper.size cpu --max_length 300",
    "papers/solopo.yaml": f"{_LONGBENCH} --paper.longbench_v2 longbench_v2 --paper.size cpu --paper.lengths [2048]",
    "short_context.yaml --model": "--short_context.tasks '{colours: 2}' --short_context.include_path tasks",
    "_short.yaml": "--short_context.tasks '{colours: 2}' --short_context.include_path tasks",
    "perplexity ": "--lengths [64,128] --stride 64",
    "--data.init_args.path my_pairs": "--policy.source FOLDER",
    "--config solopo --config configs/real": "--policy.source FOLDER --data.path my_pairs.jsonl",
    # Made by the fixture: the second run is of the embedded model.
    "--config dpo --ckpt_path": "--ckpt_path runs/lightning_logs/version_1/checkpoints/last.ckpt",
}

_TRAINING = "--trainer.fast_dev_run true --trainer.accelerator cpu --trainer.devices 1 --policy.dtype float32"
# Of a command; what is typed last holds.
FEWER = {
    "fit": _TRAINING,
    "validate": _TRAINING,
    "test": _TRAINING,
    "build": "--limit 2 --policy.dtype float32",
    "evaluate": "--limit 1 --accelerator cpu",
    "ask": "",
    "export": "",
    "perplexity": "",
    "plan": "",
}
_OWN_PAIRS = "--data.num_train 24 --data.num_val 4"  # of the embedded data, where no other are named


def all_lines() -> list[Line]:
    """Of pages, blocks and text, of the heads of configurations and of --help: each command once."""
    lines = dict[tuple[str, ...], Line]()
    for line in _found():
        lines.setdefault(line.ours or line.words, line)
    return list(lines.values())


def _found() -> list[Line]:
    tables = table_lines("docs/start.md", "--config", "solopo")
    return [*page_lines(), *inline_lines(), *tables, *recipe_lines(), *help_lines()]


def not_run(line: Line) -> NotRun | None:
    """Why a line is not run, if it is not."""
    text = shlex.join(line.words)
    return next((entry for entry in NOT_RUN if entry.part in text), None)


def run_lines() -> list[Line]:
    """Those that a test runs."""
    return [line for line in all_lines() if not_run(line) is None]


def words_here(line: Line, output: str) -> list[str]:
    """A line's command with what stands for others' files, and with fewer steps.

    Args:
        line: one of `lit_longpo`.
        output: folder for what would be written to a folder of the configuration.
    """
    assert line.ours is not None
    text = " ".join(line.ours)
    if {"--compare", "--print_config", "--help"} & set(line.ours):
        return list(line.ours)
    words = [_stand_in(word, text) for word in line.ours]
    fewer = shlex.split(FEWER[words[0]])
    return [*words, *fewer, *_added(text), *_written(line.ours, output)]


def _stand_in(word: str, text: str) -> str:
    if word == "FOLDER_OR_FILE":
        return next(found for name, found in FOLDER_OR_FILE.items() if name in text)
    if word.startswith("["):
        return f"[{','.join(STAND_INS.get(item.strip(), item.strip()) for item in word.strip('[]').split(','))}]"
    return STAND_INS.get(word, word)


def _added(text: str) -> Iterator[str]:
    for part, more in ADDED.items():
        if part in text:
            yield from shlex.split(more)
    if text.startswith(("fit", "validate", "test")) and "--data" not in text.replace("--data.positions", ""):
        yield from () if "real/" in text or "smollm2" in text else shlex.split(_OWN_PAIRS)


def _written(words: tuple[str, ...], output: str) -> list[str]:
    """A folder of its own: what a page's folder holds, other lines read."""
    return ["--output", output] if words[0] in ("build", "evaluate", "perplexity", "export") else []
