"""`python -m lit_longpo plan`: tables, JSON, architectures that are not here, and messages."""

import json
import logging

import pytest
from support.command_line import CONFIGS, build

from lit_longpo import __main__ as command
from lit_longpo.planning.command import plan_for
from lit_longpo.planning.tracing import activations

SOLOPO = str(CONFIGS / "solopo.yaml")


@pytest.fixture
def _short_traces(monkeypatch):
    """Lengths of which the embedded model's activations outweigh its gradients already."""
    monkeypatch.setattr(activations, "_TRACED_TOKENS", (512, 1024, 2048))


def run(*arguments):
    command.main(["plan", *map(str, arguments)])


@pytest.mark.usefixtures("_short_traces")
def test_tables_and_json(capsys, tmp_path):
    out = tmp_path / "deep" / "plan.json"
    run("--config", SOLOPO, "--row_tokens", 2048, "--device_memory_gib", 4, "--json", out)
    printed, logged = capsys.readouterr()
    assert "Seed set" not in logged  # of nothing that is run
    for words in (
        "SoLoPO on embedded: 353,152 parameters",
        "one CPU device; a full row: 2,048 t",
        "optimizer",
        "longest context",
        "fits: peak",
        "degrees",
    ):
        assert words in printed
    made = json.loads(out.read_text())
    assert made["parameters"] == 353_152
    assert made["row"]["tokens"] == made["tokens_per_step"] == 2048
    assert made["memory"]["none"]["peak"] == max(made["memory"]["none"]["moments"].values())
    assert made["memory"]["recompute"]["peak"] < made["memory"]["none"]["peak"] < made["device_memory"]
    assert made["longest_context"]["recompute"] > made["longest_context"]["none"] > 2048
    assert logging.getLogger("lit_longpo").level == logging.INFO  # as `main` set it: later commands are not silenced


@pytest.mark.slow
@pytest.mark.usefixtures("_short_traces")
def test_a_saved_configuration_can_be_planned(tmp_path):
    """It holds what the command line of `fit` holds beyond the sections, for example `ckpt_path`."""
    cli = build("--config", SOLOPO)
    saved = tmp_path / "config.yaml"
    saved.write_text(cli.parser.dump(cli.config) + "ckpt_path: null\n")
    made = plan_for(["--config", str(saved), "--row_tokens", "1024", "--response_tokens", "8", "--short_tokens", "8"])
    assert made.row.num_tokens == 1024


def test_misspelt_options_are_refused_as_in_fit(capsys):
    with pytest.raises(SystemExit):
        run("--config", SOLOPO, "--trainer.max_stepz", 3)
    assert "did you mean trainer.max_steps" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--policy.source", "nobody/nothing"), r"name its architecture with --shape.*llama3_8b"),
        (("--policy.source", "runs/nothing/here"), r"expected a model folder.*--shape"),
        (("--shape", "gpt-9"), r"expected `--shape` to be a config.json or one of"),
        (("--mfu", 0), r"expected `--mfu` above 0"),
        (("--trainer.strategy", "fsdp"), r"expected one of our strategies.*'fsdp'"),
        (("--sequence_parallel", 3), r"divides 1 devices, got 3"),
    ],
)
def test_what_cannot_be_planned(arguments, message):
    with pytest.raises(SystemExit, match=f"^error: .*{message}"):
        run("--config", SOLOPO, *arguments)
