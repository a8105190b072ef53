"""Misspelt keys and class names get a short answer, through the real command line."""

import ast
import multiprocessing
import os
import re
import signal
import subprocess
import sys
import time
from functools import cache

import pytest
import torch
from lightning.pytorch.callbacks import Checkpoint, ModelSummary, ProgressBar
from support.command_line import CONFIGS, build
from support.tiny_hybrids import tiny_hybrid
from support.tiny_models import ARCHITECTURES, tiny_model

from lit_longpo import __main__ as command
from lit_longpo.cli import LongPOCLI
from lit_longpo.objectives import DPO, IPO, ORPO, SimPO, SoLoPO
from lit_longpo.policy import PolicyConfig

command.register_classes()
# Libraries that one command or another needs, and that parsing the command line of `fit` does not.
HEAVY = {"datasets", "deepspeed", "lm_eval", "openai", "pandas", "peft", "pyarrow", "spacy", "tensorboard", "vllm"}


def fails(capsys, *arguments):
    with pytest.raises(SystemExit) as stopped:
        LongPOCLI(args=["fit", "--config", "configs/solopo.yaml", *arguments])
    assert stopped.value.code == 2
    return capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        (["--model.alhpa", "3"], "did you mean alpha?"),
        (["--model", "SoLoP"], "did you mean SoLoPO"),
        (["--data", "SyntheticDataModul"], "did you mean SyntheticDataModule"),
        (["--trainer.max_stepz", "3"], "did you mean trainer.max_steps"),
        (["--polcy.dtype", "bfloat16"], "did you mean policy.dtype?"),
        (["--optimization.scheduel", "linear"], "did you mean optimization.schedule?"),
    ],
)
def test_misspelt_names_get_a_suggestion(arguments, hint, capsys):
    message = fails(capsys, *arguments)
    assert hint in message
    assert len(message.splitlines()) < 20


def test_misspelt_keys_in_yaml_too(capsys, tmp_path):
    overlay = tmp_path / "overlay.yaml"
    overlay.write_text("trainer: {max_stepz: 3}\n")
    assert "did you mean trainer.max_steps" in fails(capsys, "--config", str(overlay))


def test_words_beside_a_class_are_named(capsys):
    error, _ = fails(capsys, "--policy.quantization", "8bit").splitlines()
    assert error == "error: expected `policy.quantization` to name one of 4bit, got 8bit"


@pytest.mark.parametrize(
    ("init_args", "hint"),
    [
        ("base: orpo", r"expected `base` to name one of .*ORPO.*, got orpo; did you mean ORPO\?$"),
        ("beta: 0.1", r"type --model\.base\.beta$"),
        ("gamma: 1.0", r"type --model\.base\.gamma$"),
    ],
)
def test_spellings_of_earlier_versions_get_todays(init_args, hint, capsys, tmp_path):
    overlay = tmp_path / "overlay.yaml"
    overlay.write_text(f"model: {{class_path: SoLoPO, init_args: {{{init_args}}}}}\n")
    option, value = f"--model.{init_args}".split(": ")
    for arguments in (("--config", str(overlay)), (option, value)):
        error, where = fails(capsys, *arguments).splitlines()
        assert re.search(hint, error)
        assert "--help" in where


@pytest.mark.parametrize(
    "arguments",
    [
        ("--model.context", "long"),  # which a base would refuse
        ("--model", "LongPO", "--model.gamma", "1"),
        ("--model.base", "DPO", "--model.base.gamma", "1"),
        ("--gamma", "1"),
    ],
)
def test_only_what_a_base_takes_is_sent_there(arguments, capsys):
    assert "SoLoPO's base" not in fails(capsys, *arguments)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("--model", "lit_longpo.objectives.pairwise.DPO"), r"`model`, got .*\.DPO: module .* did you mean DPO\?$"),
        (("--trainer.callbacks+", "evaluation.callbacks.NeedleCallback"), r"did you mean NeedleCallback\?$"),
        (
            ("--optimization.optimizer", "lit_longpo.quantized_optimizers.QuantizedAdamW"),  # as older files have it
            r"expected a class for `optimization.optimizer`, got .*: module .* did you mean QuantizedAdamW\?$",
        ),
        (("--data", "nothing.Here"), r"`data`, got nothing\.Here: No module named 'nothing'"),
        (
            ("--trainer.callbacks+", "NeedleCalback"),
            r"NonFiniteGuard.*, got NeedleCalback; did you mean NeedleCallb",
        ),
        (("--trainer.logger", "TensorBordLogger"), r"did you mean TensorBoardLogger"),
    ],
)
def test_a_class_that_is_not_there_is_one_line(arguments, expected, capsys):
    error, where = fails(capsys, *arguments).splitlines()
    assert re.search(expected, error)
    assert "--help" in where


def test_arguments_of_a_base_need_a_base(capsys):
    arguments = ("--model", "DPO", "--model", "SoLoPO", "--model.base.beta", "0.3")
    assert re.search("type one of .*DPO, .*SimPO.* for `base` first", fails(capsys, *arguments))


@pytest.mark.parametrize(
    ("arguments", "algorithm"),
    [
        ([], ORPO(beta=0.1)),
        (["--model.base", "ORPO"], ORPO(beta=0.1)),
        (["--model.base", "{class_path: ORPO, init_args: {beta: 0.3}}"], ORPO(beta=0.3)),
        (["--model.base.beta", "0.3"], ORPO(beta=0.3)),
        (["--model", "SoLoPO", "--model.base", "DPO"], DPO(beta=0.1)),
        (["--model", "SoLoPO", "--model.base", "IPO"], IPO(beta=0.1)),
        (["--model.base", "SimPO", "--model.base.gamma", "0.5"], SimPO(beta=2.0, gamma=0.5)),
    ],
)
def test_the_base_of_solopo_is_named_like_any_objective(arguments, algorithm):
    model = LongPOCLI(args=["--config", "configs/solopo.yaml", *arguments], run=False).model
    assert (type(model), model.algorithm) == (SoLoPO, algorithm.algorithm)


def test_a_base_with_settings_of_its_own_training_is_one_short_message():
    with pytest.raises(
        SystemExit, match=r"^error: expected only DPO's own arguments in the base, got context"
    ) as stopped:
        run_main("--model.base", "configs/objective/dpo.yaml")
    assert len(str(stopped.value).splitlines()) == 1


def test_help_of_an_objective_shows_what_it_hands_on(capsys):
    with pytest.raises(SystemExit):
        LongPOCLI(args=["fit", "--model.help", "DPO"])
    printed = capsys.readouterr().out
    for option in ("beta", "context", "policy", "optimization", "reference"):
        assert f"--model.{option} " in printed


def test_wrong_values_name_the_choices(capsys):
    assert "bfloat16" in fails(capsys, "--policy.dtype", "float99")


def test_missing_files_are_named(capsys):
    assert "nowhere.yaml" in fails(capsys, "--config", "nowhere.yaml")


def test_help_works_as_a_process():
    words = [sys.executable, "-m", "lit_longpo", "fit", "--help"]
    printed = subprocess.run(words, cwd=CONFIGS.parent, stdout=subprocess.PIPE, text=True, check=True).stdout
    assert "--policy.source" in printed
    assert "--optimization.schedule" in printed


def imported_by(statement):
    """Every module that a new Python has imported after the statement."""
    script = f"import sys; {statement}; print(*sys.modules)"
    printed = subprocess.run([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True, check=True).stdout
    return set(printed.split())


def test_the_entry_waits_for_no_library():
    assert not imported_by("import lit_longpo.__main__") & {*HEAVY, "torch", "transformers", "lightning", "evaluation"}


ROOMS = ("data_modules.builders", "evaluation", "lit_longpo.export", "lit_longpo.planning")


def imported_at_once(statements):
    """Full names of what statements of a module import while they run; functions and type checkers come later."""
    for node in statements:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.If | ast.Try | ast.ClassDef | ast.With) and "TYPE_CHECKING" not in ast.dump(node):
            yield from imported_at_once(node.body)


def all_imported_at_once(modules):
    """Through our own modules; a name in a module leads to the module and to the packages around it."""
    seen, waiting = set(), list(modules)
    while waiting:
        name = waiting.pop()
        if name in seen:
            continue
        seen.add(name)
        waiting.append(name.rpartition(".")[0] or name)
        path = CONFIGS.parent.joinpath(*name.split("."))
        files = [file for file in (path.with_suffix(".py"), path / "__init__.py") if file.is_file()]
        waiting += [found for file in files for found in imported_at_once(ast.parse(file.read_text()).body)]
    return seen


def test_no_command_names_the_libraries_of_another_at_once():
    seen = all_imported_at_once(["lit_longpo.__main__", "lit_longpo.cli", *(f"{room}.command" for room in ROOMS)])
    assert {"lightning.pytorch.cli", "evaluation.benchmark", "transformers", "lit_longpo.policy.loading"} <= seen
    assert not seen & HEAVY


@pytest.mark.slow
def test_no_command_waits_for_the_libraries_of_another():
    others = "; ".join(f"import {room}.command" for room in ROOMS)
    parsed = imported_by(
        f"from lit_longpo import __main__; __main__.register_classes(); import lit_longpo.cli; {others}"
    )
    assert {"lightning.pytorch.cli", "evaluation.command", "data_modules.builders.command"} <= parsed
    assert not parsed & HEAVY


# What transformers' trainer brings with it: peft, bitsandbytes, torch's compiler; two seconds of a processor.
TRAINER = {"transformers.optimization", "transformers.trainer", "transformers.trainer_utils"}


def test_no_file_of_ours_imports_transformers_trainer():
    rooms = (CONFIGS.parent / name for name in ("lit_longpo", "data_modules", "evaluation"))
    files = [file for room in rooms for file in room.rglob("*.py")]
    assert len(files) > 300
    named = {module for file in files for module in re.findall(r"(?m)^ *(?:from|import) ([\w.]+)", file.read_text())}
    assert "transformers" in named
    assert not named & TRAINER


@pytest.mark.slow
def test_a_fit_of_all_weights_waits_for_no_adapters_and_no_compiler(tmp_path):
    words = ["fit", "--config", "solopo", "--trainer.fast_dev_run", "true", "--trainer.callbacks", "null"]
    words += ["--data.num_train", "4", "--data.num_val", "4", "--trainer.default_root_dir", str(tmp_path)]
    started = imported_by(f"from lit_longpo.__main__ import main; main({words!r})")
    assert {"lit_longpo.objectives.solopo", "torch.utils.checkpoint"} <= started
    assert not started & (HEAVY - {"tensorboard"} | TRAINER | {"bitsandbytes", "torch._inductor.compile_fx"})


def test_a_parser_is_built_for_the_command_alone_that_is_typed(capsys):
    for words, built in ((["test"], ["test"]), (["--config", "none"], ["fit", "validate", "test"])):
        made = []

        class Recorded(LongPOCLI):
            def _prepare_subcommand_parser(self, kind, name, made=made, **options):
                made.append(name)
                return super()._prepare_subcommand_parser(kind, name, **options)

        with pytest.raises(SystemExit):
            Recorded(args=[*words, "--trainer.max_stepz", "3"])
        assert made == built
    assert "did you mean" in capsys.readouterr().err


def test_the_first_help_lists_every_command(capsys):
    command.main(["--help"])
    printed = capsys.readouterr().out
    assert all(f"  {name} " in printed for name in command.COMMANDS)


@pytest.mark.parametrize(("word", "ours"), [("evalute", "evaluate"), ("train", "fit"), ("merge", "export")])
def test_a_misspelt_command_gets_a_suggestion(word, ours, capsys):
    with pytest.raises(SystemExit) as stopped:
        command.main([word, "--limit", "3"])
    assert stopped.value.code == 2
    assert f"did you mean {ours}?" in capsys.readouterr().err


def test_every_command_is_a_function():
    assert set(command.COMMANDS) >= {"fit", "validate", "test"}
    assert all(callable(function) for function in command.COMMANDS.values())


def run_main(*arguments):
    command.main(["fit", "--config", "configs/solopo.yaml", *arguments])


def test_a_missing_data_file_is_one_short_message(monkeypatch, tmp_path):
    where = ("--trainer.default_root_dir", str(tmp_path))
    data = ("--data", "configs/data/musique.yaml", "--data.path", str(tmp_path / "none.jsonl"))
    with pytest.raises(SystemExit, match=r"^error: expected a MuSiQue.*none.jsonl.*--data.path") as stopped:
        run_main(*data, *where)
    assert len(str(stopped.value).splitlines()) == 1
    monkeypatch.setenv("LIT_LONGPO_TRACEBACK", "1")
    with pytest.raises(FileNotFoundError):
        run_main(*data, *where)


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        (["--policy.rope.type", "linear"], r"policy\.rope\.factor"),
        (["--policy.source", "./nope"], r"set `policy\.source`"),
        (["--policy.lora.target_modules", "[q_prj]"], r"policy\.lora\.target_modules"),
    ],
)
def test_our_errors_are_short_wherever_they_are_raised(arguments, hint, tmp_path):
    small = ["--data.init_args.num_train", "8", "--trainer.max_steps", "1", "--trainer.default_root_dir", str(tmp_path)]
    with pytest.raises(SystemExit, match=hint) as stopped:
        run_main(*small, *arguments)
    assert len(str(stopped.value).splitlines()) < 4


@pytest.mark.parametrize("words", [["evaluate", "--config", "qa", "--benchmark.path", "no.jsonl"], ["ask"]])
def test_a_model_behind_model_is_told_by_that_name(words, tmp_path):
    (document := tmp_path / "text.txt").write_text("a")
    asked = ["--document", str(document), "--question", "q"] if words == ["ask"] else []
    with pytest.raises(SystemExit, match=r"no folder|found none") as stopped:
        command.main([*words, *asked, "--model", "./nope"])
    assert str(stopped.value).endswith("set --model")


@pytest.mark.parametrize("seed", ["-1", str(2**32)])
def test_seeds_out_of_bounds_are_one_short_message(seed):
    with pytest.raises(SystemExit, match=f"expected `seed_everything` .* {seed} is not in bounds"):
        run_main("--seed_everything", seed)


def test_callbacks_that_are_alike_are_one_short_message():
    alike = "[ModelCheckpoint, {class_path: ModelCheckpoint}]"
    with pytest.raises(
        SystemExit, match=r"expected one callback of each kind .* got two ModelCheckpoint that are alike"
    ):
        run_main("--trainer.callbacks", alike)


@pytest.mark.parametrize("name", ["build", "fit"])
@pytest.mark.parametrize(("signum", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_signals_end_a_command_with_one_line(signum, status, name, monkeypatch, capsys):
    """A trainer hears signals itself, but `fit` imports, parses and reads data before it has one."""
    before, undone = signal.getsignal(signal.SIGTERM), list[str]()

    def asked(_):
        try:
            os.kill(os.getpid(), signum)
            time.sleep(60)
        finally:
            undone.append("state")

    monkeypatch.setitem(command.COMMANDS, name, asked)
    interrupts = signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored in background jobs
    try:
        with pytest.raises(SystemExit) as stopped:
            command.main([name])
    finally:
        signal.signal(signal.SIGINT, interrupts)
    assert (stopped.value.code, undone) == (status, ["state"])
    assert capsys.readouterr().err == "interrupted: what was written stays, and the same command goes on\n"
    assert signal.getsignal(signal.SIGTERM) is before


def test_of_several_processes_one_says_that_they_were_interrupted(monkeypatch, capsys):
    def interrupted(_):
        raise KeyboardInterrupt

    monkeypatch.setitem(command.COMMANDS, "fit", interrupted)
    monkeypatch.delenv("RANK", raising=False)  # libraries that start a group of processes set it, and leave it
    monkeypatch.setenv("LOCAL_RANK", "1")
    with pytest.raises(SystemExit) as stopped:
        command.main(["fit"])
    assert (stopped.value.code, capsys.readouterr().err) == (130, "")


def test_processes_that_a_command_forks_end_by_sigterm_in_silence(monkeypatch, capfd):
    def asked(_):
        forks = multiprocessing.get_context("fork")
        runs = forks.Event()
        child = forks.Process(target=lambda: (runs.set(), time.sleep(60)))
        child.start()
        assert runs.wait(10)
        child.terminate()
        child.join(10)
        assert child.exitcode == 143

    monkeypatch.setitem(command.COMMANDS, "build", asked)
    command.main(["build"])
    assert capfd.readouterr().err == ""


def test_errors_that_nobody_foresaw_keep_their_traceback(monkeypatch):
    monkeypatch.setitem(command.COMMANDS, "fit", lambda arguments: {}["missing"])
    with pytest.raises(KeyError):
        run_main()


@pytest.mark.parametrize("name", ["evaluation/__init__.py", "data_modules.py"])
def test_another_projects_package_of_our_name_is_one_line(name, tmp_path, monkeypatch):
    stranger = tmp_path / name
    stranger.parent.mkdir(exist_ok=True)
    stranger.touch()
    package = name.split("/")[0].removesuffix(".py")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, package)
    with pytest.raises(SystemExit, match=f"^error: expected the package `{package}` .*got {stranger}") as stopped:
        command.main(["plan"])
    assert len(str(stopped.value).splitlines()) == 1


def test_a_folder_without_code_in_it_is_in_nobodys_way(tmp_path, monkeypatch):
    (tmp_path / "evaluation").mkdir()
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "evaluation")
    monkeypatch.setitem(command.COMMANDS, "fit", lambda arguments: None)
    run_main()


def test_classes_of_the_current_folder_are_found_after_everything_installed(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", [path for path in sys.path if path])
    monkeypatch.setitem(command.COMMANDS, "fit", lambda arguments: None)
    monkeypatch.chdir(tmp_path)
    run_main()
    assert sys.path[-1] == str(tmp_path)


@cache
def twin(name, folder):
    """A tiny model with sinks and routed experts, soft-caps or state, and the embedded model's tokenizer."""
    tokenizer = PolicyConfig().tokenizer()
    make = tiny_model if name in ARCHITECTURES else tiny_hybrid
    make(name, vocab_size=len(tokenizer)).save_pretrained(folder / name)
    tokenizer.save_pretrained(folder / name)
    return folder / name


QUICK = [("GptOss", "dpo"), ("Gemma2", "simpo"), ("GptOss", "solopo"), ("Qwen3_5Text", "solopo"), ("StableLm", "dpo")]
SLOW = [
    *[("Gemma2", "dpo"), ("GptOss", "simpo"), ("Gemma2", "solopo")],
    *[("Qwen3_5Text", "dpo"), ("Qwen3_5Text", "simpo"), ("StableLm", "simpo"), ("StableLm", "solopo")],
]
RUNS = [*QUICK, *(pytest.param(*pair, marks=pytest.mark.slow) for pair in SLOW)]


@pytest.mark.parametrize(("name", "objective"), RUNS)
def test_models_of_every_kind_train(name, objective, tmp_path, tmp_path_factory, caplog):
    """Two steps; the weights that are written have moved, those of sinks and states too, and load as a policy."""
    data = {"num_train": 8, "num_val": 2, "max_tokens": 1024, "long_words": [32, 48], "short_words": 16}
    trainer = {"max_steps": 2, "limit_val_batches": 1, "accumulate_grad_batches": 1, "default_root_dir": tmp_path}
    quiet = {"logger": "false", "enable_progress_bar": "false", "enable_model_summary": "false"}
    saved = f"[{{class_path: SavePretrained, init_args: {{directory: {tmp_path / 'out'}}}}}]"
    source = twin(name, tmp_path_factory.getbasetemp())
    settings = {"policy.source": source, **{f"data.init_args.{name}": value for name, value in data.items()}}
    settings |= {f"trainer.{name}": value for name, value in {**trainer, **quiet, "callbacks": saved}.items()}
    words = [word for name, value in settings.items() for word in (f"--{name}", str(value))]
    command.main(["fit", "--config", f"configs/{objective}.yaml", *words])
    before, after = (PolicyConfig(source=str(path)).load().state_dict() for path in (source, tmp_path / "out"))
    moved = {name for name, weight in after.items() if not torch.equal(weight, before[name])}
    attention = {name for name in before if any(part in name for part in ("sinks", "q_proj", "conv1d"))}
    assert len(attention) >= 2
    assert attention <= moved
    assert ("each response is scored alone" in caplog.text) == (name == "StableLm")


@pytest.mark.parametrize(
    ("switch", "kind"),
    [
        ("enable_progress_bar", ProgressBar),
        ("enable_checkpointing", Checkpoint),
        ("enable_model_summary", ModelSummary),
    ],
)
def test_what_a_switch_turns_off_may_stand_in_a_recipe(switch, kind):
    named = "[RichProgressBar, ModelCheckpoint, RichModelSummary, NonFiniteGuard]"
    recipe = ("--config", CONFIGS / "sft.yaml", "--trainer.callbacks", named)
    there = [type(item) for item in build(*recipe).trainer.callbacks]
    left = [type(item) for item in build(*recipe, f"--trainer.{switch}", "false").trainer.callbacks]
    assert left == [item for item in there if not issubclass(item, kind)]
    assert len(left) == len(there) - 1


def test_a_recipe_runs_without_all_that_costs_time():
    """Lightning refused our own default of `log_every_n_steps`, and then the recipe's progress bar."""
    trainer = build("--config", CONFIGS / "dpo.yaml", "--trainer.barebones", "true").trainer
    assert not [item for item in trainer.callbacks if isinstance(item, ProgressBar | Checkpoint | ModelSummary)]
    assert trainer.log_every_n_steps == 0
    assert not trainer.loggers


def test_a_start_from_config_yaml_in_another_root_folder_has_its_loggers_there(tmp_path):
    """They wrote into the first root folder, where `--ckpt_path last` does not look."""
    small = ("--data.num_train", "4", "--data.num_val", "2", "--trainer.max_steps", "1", "--trainer.callbacks", "[]")
    quiet = ("--trainer.enable_progress_bar", "false", "--trainer.limit_val_batches", "0")
    loggers = ("--trainer.logger", "[CSVLogger, TensorBoardLogger]", "--name", "mine")
    first, second = tmp_path / "first", tmp_path / "second"
    run_main(*small, *quiet, *loggers, "--trainer.default_root_dir", str(first))
    (written,) = first.rglob("config.yaml")
    command.main(["fit", "--config", str(written), "--trainer.default_root_dir", str(second), "--name", "other"])
    assert {path.relative_to(first).parts[0] for path in first.rglob("*") if path.is_file()} == {"mine"}
    assert (second / "other" / "version_0" / "metrics.csv").is_file()
    assert list((second / "other").rglob("events.out.tfevents*"))
