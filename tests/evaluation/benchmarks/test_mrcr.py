import json

import pytest
from support.byte_tokenizer import CHAT, byte_tokenizer
from support.made_up_records import evaluated, mrcr

from evaluation import MRCR
from lit_longpo.policy import PromptFormat, PromptTemplate

FORMAT = PromptFormat(byte_tokenizer(chat_template=CHAT), PromptTemplate("{context} and {question}"))


@pytest.mark.slow
def test_the_command_line_asks_a_tiny_model(tmp_path):
    report = evaluated("mrcr", tmp_path)
    [row] = report.predictions
    assert (row.task, row.length, row.score) == ("2needle", 128, 0.0)
    assert report.tables["2needle"] == {"score": 0.0, "128": 0.0}


@pytest.mark.parametrize("system", [None, "Be brief."])
def test_the_prompt_is_the_conversation_in_the_chat_template(tmp_path, system):
    mrcr(tmp_path)
    record = json.loads((tmp_path / "2needle.jsonl").read_text())
    messages = [{"role": "system", "content": system}] * (system is not None) + json.loads(record["prompt"])
    (tmp_path / "2needle.jsonl").write_text(json.dumps(record | {"prompt": json.dumps(messages)}))
    bench = MRCR(str(tmp_path))
    [example] = bench.examples("2needle")
    prompt = bench.prompt(example, FORMAT, 1000)
    assert list(prompt.ids) == FORMAT.tokenizer.apply_chat_template(
        messages, add_generation_prompt=True, return_dict=False
    )
    assert bench.score(example, "k9Tapirs, two.") == 1.0
    assert bench.score(example, "Tapirs, two.") == 0.0
    with pytest.raises(ValueError, match="must not be cut"):
        bench.prompt(example, FORMAT, 30)
    with pytest.raises(ValueError, match="expected a chat template"):
        bench.prompt(example, PromptFormat(byte_tokenizer(), PromptTemplate()), 1000)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("prompt", "no JSON"),
        ("prompt", json.dumps([{"role": "user"}])),
        ("prompt", json.dumps([{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}])),
        ("prompt", json.dumps([{"role": role, "content": "a"} for role in ("user", "system", "user")])),
        ("n_needles", 3),
        ("random_string_to_prepend", ""),
        ("answer", None),
    ],
)
def test_broken_records_are_named(tmp_path, name, value):
    mrcr(tmp_path)
    record = json.loads((tmp_path / "2needle.jsonl").read_text())
    mrcr(tmp_path, rows=[record | {name: value}])
    with pytest.raises(ValueError, match=rf"2needle\.jsonl:2: field '{name}'"):
        MRCR(str(tmp_path))
