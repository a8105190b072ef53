"""How much of a prompt is kept: the number of the official run where the window has room for it."""

from types import SimpleNamespace

import pytest
from support import official_layout
from support.byte_tokenizer import CHAT, byte_tokenizer

from evaluation import LongBench, LongBenchV2, LVEval, NeedleBenchmark
from evaluation.running.settings import RunSettings, default_max_length, length_deviation
from lit_longpo.errors import InputError
from lit_longpo.policy import PromptFormat, PromptTemplate

FORM = PromptFormat(byte_tokenizer(chat_template=CHAT), PromptTemplate())


@pytest.fixture(scope="module")
def benchmarks(tmp_path_factory):
    folder = tmp_path_factory.mktemp
    return {
        "longbench": LongBench(official_layout.longbench(folder("v1"), {"hotpotqa": 1})),
        "longbench_v2": LongBenchV2(official_layout.longbench_v2(folder("v2"), 1)),
        "lveval": LVEval(official_layout.lveval(folder("lv"), 1)),
    }


@pytest.mark.parametrize(
    ("name", "window", "length"),
    [  # LongBench/config/model2maxlen.json: llama2 4k, xgen 8k, vicuna 16k, longchat 32k
        ("longbench", 4096, 3500),
        ("longbench", 8192, 7500),
        ("longbench", 16384, 15500),
        ("longbench", 32768, 31500),
        ("longbench_v2", 131072, 120_000),  # config/model2maxlen.json: every open model of 128K
        ("longbench_v2", 1_010_000, 120_000),
        ("lveval", 16384, 15884),  # README: the window minus 500
        ("lveval", 16000, 15500),  # prediction.py's default
    ],
)
def test_the_official_number_is_taken_where_it_fits(benchmarks, name, window, length):
    bench = benchmarks[name]
    assert default_max_length(bench, bench.tasks, FORM, window) == length
    assert length_deviation(bench, length, window) == ()
    assert length_deviation(bench, 1000, window) == (f"prompts cut to 1,000 tokens, in official runs to {length:,}",)


@pytest.mark.parametrize(("name", "window"), [("longbench", 2048), ("longbench_v2", 32768), ("lveval", 1024)])
def test_elsewhere_it_is_what_the_window_leaves_and_said(benchmarks, name, window):
    bench = benchmarks[name]
    length = default_max_length(bench, bench.tasks, FORM, window)
    prompt = bench.prompt(next(iter(bench.examples(bench.tasks[0]))), FORM, 10**9)
    room = window - prompt.max_new_tokens - (len(prompt.ids) - prompt.num_tokens)
    assert room - 512 < length < room
    [said] = length_deviation(bench, length, window)
    assert said.startswith(f"prompts cut to {length:,} tokens, in official runs to")


def test_without_an_official_run_nothing_deviates():
    assert length_deviation(NeedleBenchmark(lengths=(64,)), 100, 4096) == ()
    assert length_deviation(NeedleBenchmark(lengths=(64,)), 100, None) == ()


def test_no_task_is_refused_whoever_names_none():
    with pytest.raises(InputError, match="expected names in `tasks`, got none"):
        RunSettings(tasks=[])
    with pytest.raises(InputError, match="expected tasks of needle, got none"):
        RunSettings().chosen(SimpleNamespace(name="needle", tasks=()))
