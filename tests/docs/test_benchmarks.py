"""The benchmarks run, and refuse to compare unlike with unlike. Nothing is timed here."""

import json
import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from benchmarks import ceiling, device, device_measures, endurance, sharing, tiles, twins
from benchmarks.bars import CASES, Verdict, table
from benchmarks.compare import Side, check_losses, compare, markdown, ratios, run_here
from benchmarks.flops import computed_flops, layer_weights, seen_keys, step_flops
from benchmarks.growth import slope
from benchmarks.jobs import Job, Jobs
from benchmarks.setting import SHAPES, Setting, tokenizer, words

ROOT = Path(__file__).resolve().parents[2]
SMALL = ["--shape", "smoke", "--prompt", "40", "--answers", "5", "3", "--steps", "1", "--rounds", "1"]


def run(module: str, *flags: str) -> str:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "docs")])}
    command = [sys.executable, "-m", f"benchmarks.{module}", *flags]
    done = subprocess.run(command, capture_output=True, text=True, timeout=3600, env=environment, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


@pytest.mark.parametrize(
    ("objective", "answers"),
    [("dpo", (5, 3)), ("dpo", (5, 3, 4, 6)), ("simpo", (5, 3)), ("orpo", (5, 3)), ("sft", (5, 3))],
)
def test_ours_and_trl_lose_the_same_step_after_step(objective, answers):
    pytest.importorskip("trl")
    setting = Setting(shape="smoke", objective=objective, prompt=40, answers=answers, steps=1)
    names = ("ours", "trl_compact", "trl") if objective in ("dpo", "sft") else ("ours", "trl")
    result = compare([Side(name, name, setting) for name in names], rounds=1, run=run_here)
    losses = [result["sides"][name]["losses"] for name in names]
    assert len(losses[0]) == 2
    for other in losses[1:]:
        assert other == pytest.approx(losses[0], abs=2e-5)  # after the first update, too
    assert "| trl |" in markdown(objective, result)


def test_the_ceilings_parts_are_a_step():
    setting = Setting(shape="smoke", prompt=40, answers=(5, 3), steps=1)
    made = ceiling.measure(setting, rounds=1, product=32)
    parts = ("attention", "head", "rest of the layers", "optimizer", "packing")
    assert sum(made[part]["flops"] for part in parts) == made["step"]["flops"] == step_flops(setting)
    for clock in ("wall", "cpu"):
        assert sum(made[part][clock] for part in parts) == pytest.approx(made["step"][clock])
    made["step"] |= {"flops": 3e9, "wall": 2.0}
    made["peak"] |= {"flops": 5e9, "wall": 1.0}
    assert "| step | 2.000 | " in (lines := ceiling.table("small", made, "wall"))
    assert "| 100.0% | 3.0 | 30% |" in lines


@pytest.mark.slow
def test_tiles_take_less_and_lose_the_same():
    whole, tiled = (tiles.step(3000, size) for size in (None, 1024))
    assert tiled["loss"] == pytest.approx(whole["loss"], rel=1e-6)
    assert tiled["account"] < 0.75 * whole["account"]
    assert tiles.traced()[2].startswith("| float32 | 4,096 | 1,024 |")


def test_questions_about_one_book_are_counted_once():
    """By hand: 8 (1,000 + 24 + 64) tokens apart, 1,000 + 8 (24 + 64) together."""
    setting = Setting(shape="smoke")
    cases = sharing.cases_of(None, setting, 1000)
    lines = sharing.counted(cases, setting).splitlines()
    assert lines[2].startswith("| 8 questions about a book of 1,000, DPO | 8,704 | 1,704 | 0.196 |")
    assert lines[4].split("|")[4].strip() == "1.000"
    line = sharing.measured({"short": sharing.about_a_book(setting.tokens("book", 200), 2, setting.tokens)}, setting, 1)
    assert line.splitlines()[2].startswith("| short | ")


def test_long_rows_are_tokenised_and_packed():
    made = endurance.rows(3000, count=2)
    assert made["tokens"] == pytest.approx([3000, 3000], rel=0.2)  # words take more tokens or fewer
    assert len(made["MiB more"]) == 2


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
def test_files_of_pairs_are_read_tokenised_and_packed(suffix):
    made = endurance.pairs(200, suffix)
    assert made["pairs"] == 198, "two documents are held out"
    assert made["CPU seconds"].keys() == made["MiB more"].keys() == {"tokenised", "packed"}


@pytest.mark.slow
def test_a_soak_looks_at_memory_all_along():
    made = endurance.soak(200)
    assert len(made["MiB"]) == 4
    assert min(made["MiB"]) > 100


@pytest.mark.slow
def test_the_harness_gives_the_same_answers():
    pytest.importorskip("lm_eval")
    shown = run("answers", "--model", "embedded", "--count", "4", "--batch", "4", "--new-tokens", "4", "--rounds", "1")
    assert "| separate | 4 of 4 |" in shown
    assert "| shared | 4 of 4 |" in shown


@pytest.mark.slow
def test_each_side_has_its_own_process_and_tables_are_written(tmp_path):
    pytest.importorskip("trl")
    shown = run("compare", *SMALL, "--sides", "ours", "trl_compact", "--out", str(tmp_path))
    assert "ours / trl_compact: wall" in shown
    assert json.loads((tmp_path / "compare.json").read_text())["dpo"]["sides"]["ours"]["grown_mib"] > 0
    assert "| trl_compact |" in (tmp_path / "compare.md").read_text()


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_every_case_runs_at_toy_size(case, tmp_path):
    pytest.importorskip("trl")
    command = ["--case", case, "--toy", "--rounds", "1", "--steps", "1", "--out", str(tmp_path)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "docs")])}
    program = [sys.executable, "-m", "benchmarks.bars", *command]
    done = subprocess.run(program, capture_output=True, text=True, timeout=3600, env=environment, check=False)
    assert done.returncode in (0, 1), done.stderr[-3000:]  # 1: a bar is missed, which says nothing at this size
    assert f"| {case} |" in (tmp_path / "bars.md").read_text()


def test_what_a_gpu_is_asked_runs_on_a_cpu(tmp_path):
    made = device_measures.measure_step(Setting(shape="toy", prompt=48, answers=(6, 6), steps=1), "ours")
    assert made["tokens_per_second"] > 0
    assert {"ours, one row of a pair", "sdpa MATH"} == device_measures.time_kernels("cpu", 48, "float32").keys()
    errors = twins.measure("Llama", "cpu")
    assert errors["fp32 packed"]["gradient"] < 1e-5
    assert errors["sdpa"]["values"] < 2 * errors["separate"]["values"] + 1e-6


def test_a_gpus_measurements_are_chosen_by_name(capsys):
    device.main(
        ["--list", "--shapes", "small", "8b", "--prompts", "4096", "32768", "--only", "speed*liger*", "plan small*"]
    )
    assert [line.partition(" (")[0] for line in capsys.readouterr().out.splitlines()] == [
        "plan small full 4096",
        "plan small full 32768 recomputed",
        "plan small lora 32768 recomputed",
        "plan small lora 4096",
        "plan small full 4096 k 4",
        "speed small full 4096 liger ours",
        "speed 8b lora 4096 recomputed liger ours",
    ]


@pytest.mark.parametrize("flags", [["--shapes", "1.5b", "8b"], ["--prompts", "32768"]])
def test_a_gpu_is_not_asked_for_what_is_not_there(flags, capsys):
    with pytest.raises(SystemExit, match="2"):
        device.main(["--list", *flags])
    assert flags[0].removeprefix("--") in capsys.readouterr().err.splitlines()[-1]


def test_a_job_that_fails_or_hangs_spoils_no_other(tmp_path):
    jobs = Jobs(tmp_path, time.monotonic() + 1000)
    jobs.together([Job("bad", int, ("x",)), Job("endless", time.sleep, (1000,), 0.5), Job("good", dict)])
    assert {name: made["status"] for name, made in jobs.results.items()} == {
        "bad": "failed",
        "endless": "out of time",
        "good": "ok",
    }
    assert "invalid literal" in json.loads((tmp_path / "device.json").read_text())["bad"]["error"]


@pytest.mark.slow
def test_growth_is_drawn(tmp_path):
    pytest.importorskip("trl")
    sizes = ["--shape", "smoke", "--prompts", "32", "64", "--responses", "1", "2", "--prompt", "32", "--answer", "4"]
    run("growth", *sizes, "--steps", "1", "--out", str(tmp_path))
    assert (tmp_path / "growth.png").stat().st_size > 10_000
    assert "Growth between the last two sizes" in (tmp_path / "growth.md").read_text()


def test_different_losses_are_refused():
    check_losses({"ours": 0.70001, "trl": 0.70002})
    with pytest.raises(ValueError, match="expected equal losses"):
        check_losses({"ours": 0.7, "trl": 0.7001})
    with pytest.raises(ValueError, match="expected equal losses"):
        check_losses({"ours": 0.7, "trl": float("nan")})


def test_ratios_are_of_medians_with_the_spread_of_rounds():
    ours = [{"wall": [1.0, 3.0, 2.0], "cpu": [1.0], "peak_mib": 10, "grown_mib": 4}] * 2
    trl = [{**ours[0], "wall": [4.0, 4.0, 4.0]}, {**ours[0], "wall": [8.0, 8.0, 8.0]}]
    assert ratios(ours, trl)["wall"] == {"ratio": 2.0 / 6.0, "min": 0.25, "max": 0.5}
    assert ratios(ours, trl)["cpu"]["ratio"] == 1.0


def test_verdicts_say_pass_or_fail():
    assert "| 0.5 | 0.53 | <= 0.62 | pass |" in table([Verdict("a", "time", 0.5, 0.62, counted=0.53)])
    assert "| 0.7 |  | <= 0.62 | FAIL |" in table([Verdict("a", "time", 0.7, 0.62)])
    assert "| 19 |  | >= 20 | FAIL |" in table([Verdict("a", "data", 19.0, 20, at_least=True)])


def test_slopes_are_exponents():
    points = [{"prompt": n, "ours": {"seconds": float(n) ** 2}} for n in (1, 2, 4)]
    assert slope(points, "ours", "seconds", "prompt") == pytest.approx(2.0)


def test_flops_of_a_step_by_hand():
    shape = SHAPES["smoke"]  # 1 layer, hidden 32, 2 heads of 16, 1 key head, MLP 64, vocabulary 96
    assert layer_weights(shape) == 32 * 32 + 2 * 32 * 16 + 32 * 32 + 3 * 32 * 64
    setting = Setting(shape="smoke", prompt=3, answers=(1, 2))
    assert seen_keys(setting) == (1 + 2 + 3) + 4 + (4 + 5)
    weights, attention = 2 * (9216 * 6 + 96 * 32 * 3), 4 * 32 * 19
    assert step_flops(setting) == 3 * (weights + attention)
    assert step_flops(Setting(shape="smoke", prompt=3, answers=(1, 2), lora=4)) == 2 * weights + 3 * attention


def test_flops_that_a_side_computes_by_hand(monkeypatch):
    """Two answers of 1 and 2 tokens behind a prompt of 3: TRL computes rows of 4 and 5 tokens, we one of 6."""
    monkeypatch.setattr("lit_longpo.engine.log_probs.TILE_BYTES", 2 * 4 * 96)  # two tokens of logits
    setting = Setting(shape="smoke", prompt=3, answers=(1, 2))
    per_token, head, scores = 2 * 9216, 2 * 96 * 32, 4 * 32
    trl = 9 * per_token * 3 + 3 * head * 4 + (10 + 15) * scores * 3.5
    assert computed_flops(setting, ours=False) == trl
    assert computed_flops(replace(setting, separate=True), ours=True) == trl - head  # the last tile has a token
    assert computed_flops(setting, ours=True) == 6 * per_token * 3 + head * 11 + 19 * scores * 3.5
    kept, whole = (computed_flops(replace(setting, checkpointing=how), ours=True) for how in ("keep_attention", True))
    assert kept == 6 * (per_token * 4 - 2 * 32 * 64) + head * 11 + 19 * scores * 3.5
    assert whole == kept + 19 * scores
    solopo = replace(setting, objective="solopo", short=1)  # 3 + 1 tokens, then 1 + 3; scored are 1 and 3
    assert computed_flops(solopo, ours=True) == 8 * per_token * 3 + head * (16 - 2) + (10 + 2 + 5 + 1) * scores * 3.5


def test_text_and_tokens_go_round():
    ids = Setting(shape="smoke").response(0)
    assert tuple(tokenizer(96)(words(ids))["input_ids"]) == ids
