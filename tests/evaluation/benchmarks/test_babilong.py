import json

import pytest
from support.byte_tokenizer import byte_tokenizer
from support.made_up_records import PROMPTS, babilong, evaluated

from evaluation import BABILong
from evaluation.reports.reading import load_report
from lit_longpo.policy import PromptFormat, PromptTemplate

FORMAT = PromptFormat(byte_tokenizer(), PromptTemplate())


def made(folder, **more):
    return BABILong(str(folder / "data"), str(folder / "prompts.py"), **more)


@pytest.mark.slow
def test_the_command_line_asks_a_tiny_model(tmp_path):
    report = evaluated("babilong", tmp_path)
    names = [f"{task}/{length}-{n}" for task in ("qa1", "qa6") for length in ("0k", "1k") for n in (1, 2)]
    assert [row.id for row in report.predictions] == names
    assert report.tables["qa1"] == {"0k": 0.0, "1k": 0.0, "score": 0.0}
    assert any("prompts.py is not the official file" in text for text in report.deviations)
    means = BABILong.means(load_report(tmp_path / "out" / "babilong-step0.json"))["length"]
    assert {length: list(mean.parts) for length, mean in means.items()} == {"0k": ["qa1"], "1k": ["qa1"]}


def test_the_prompt_is_the_official_template_filled_in(tmp_path):
    babilong(tmp_path)
    bench = made(tmp_path, lengths=["0k"])
    first, _ = bench.examples("qa1")
    expected = "Read facts.\n<example>{}</example>\nOne word.\n<context>Mary went {in}.</context>\nQ: Where is Mary?"
    prompt = bench.prompt(first, FORMAT, 1000)
    assert FORMAT.tokenizer.decode(prompt.ids, skip_special_tokens=True) == expected
    assert prompt.max_new_tokens == 20
    assert bench.score(first, "The kitchen.") == 1.0
    with pytest.raises(ValueError, match=r"leave out the longest of --benchmark\.lengths"):
        bench.prompt(first, FORMAT, 50)


def test_a_question_is_one_context_at_all_lengths(tmp_path):
    """Intervals over all lengths took each for a question of its own, and were as much too narrow."""
    babilong(tmp_path)
    asked = {"Where is Mary?": "kitchen", "Where is John?": "office", "Where is Ann?": "kitchen"}
    for length, noise in (("0k", ""), ("1k", "Noise. ")):
        rows = [{"input": f"{noise}{at}", "question": q, "target": at} for q, at in asked.items()]
        (tmp_path / "data" / "qa1" / f"{length}.json").write_text(json.dumps(rows))
    short, long = (
        [item.context_key for item in made(tmp_path).examples("qa1") if item.groups["length"] == length]
        for length in ("0k", "1k")
    )
    assert short == long
    assert len(set(short)) == 3
    others = json.dumps([{"input": "b", "question": "Where is Mary?", "target": "garden"}])
    (tmp_path / "data" / "qa1" / "1k.json").write_text(others)
    first, *_, last = made(tmp_path).examples("qa1")
    assert first.context_key != last.context_key


def test_shards_are_one_length_and_two_layouts_are_refused(tmp_path):
    babilong(tmp_path)
    row = {"input": "a", "question": "b", "target": "office"}
    (tmp_path / "data" / "10M").mkdir()
    for number in (1, 2):
        (tmp_path / "data" / "10M" / f"qa1-0000{number}-of-00002.jsonl").write_text(json.dumps(row))
    bench = made(tmp_path)
    assert bench.lengths == ("0k", "1k", "10M")
    assert [item.id for item in bench.examples("qa1")][-2:] == ["qa1/10M-1", "qa1/10M-2"]
    (tmp_path / "data" / "qa1" / "10M.json").write_text(json.dumps([row]))
    with pytest.raises(ValueError, match="expected qa1 at 10M once"):
        made(tmp_path)


def test_what_is_missing_is_said_at_once(tmp_path):
    babilong(tmp_path)
    with pytest.raises(ValueError, match="expected lengths of 0k, 1k, got 9k"):
        made(tmp_path, lengths=["9k"])
    (tmp_path / "prompts.py").write_text(PROMPTS.replace("'qa6'", "'qa7'"))
    with pytest.raises(ValueError, match=r"prompts\.py: qa6: instruction"):
        made(tmp_path)
    for braces in ("", "{question"):
        (tmp_path / "prompts.py").write_text(PROMPTS.replace("{question}", braces))
        with pytest.raises(ValueError, match=r"prompts\.py: DEFAULT_TEMPLATE"):
            made(tmp_path)
    (tmp_path / "data" / "notes.json").write_text("[]")
    with pytest.raises(ValueError, match=r"got notes\.json; keep the hub's layout"):
        made(tmp_path)
