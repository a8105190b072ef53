import json
import math

import pytest
from support.byte_tokenizer import CHAT, byte_tokenizer
from support.official_data import official
from support.reports import table_of

from evaluation.benchmark import Benchmark
from evaluation.benchmarks.longbench_v2 import LongBenchV2
from evaluation.benchmarks.official_files import OfficialFileError
from lit_longpo.policy import PromptFormat, PromptTemplate

plain = PromptFormat(byte_tokenizer(), PromptTemplate())
chat = PromptFormat(byte_tokenizer(chat_template=CHAT), PromptTemplate())
MODES = ("zero_shot", "chain_of_thought", "no_context")
CHOICES = "$Q$ $C_A$ $C_B$ $C_C$ $C_D$"
RECORD = {
    "_id": "one",
    "domain": "Code",
    "difficulty": "hard",
    "length": "short",
    "question": " why ",
    "choice_A": "a",
    "choice_B": "b ",
    "choice_C": "c",
    "choice_D": "d",
    "answer": "B",
    "context": "\nthe text\n",
}


@pytest.fixture
def folder(tmp_path):
    """The official layout with templates of our own."""
    prompts = tmp_path / "prompts"
    prompts.mkdir()
    (prompts / "0shot.txt").write_text(f"<$DOC$> {CHOICES}")
    (prompts / "0shot_cot.txt").write_text(f"think <$DOC$> {CHOICES}")
    (prompts / "0shot_cot_ans.txt").write_text(f"{CHOICES} then $COT$ so")
    (prompts / "0shot_no_context.txt").write_text(CHOICES)
    (tmp_path / "data.jsonl").write_text(json.dumps(RECORD))
    return tmp_path


def text_of(bench, record=RECORD, **rest):
    (bench.folder / "data.jsonl").write_text(json.dumps(record))
    prompt = bench.prompt(next(bench.examples()), plain, 500, **rest)
    return chat.tokenizer.decode(list(prompt.ids)).removeprefix("<bos>")


def test_fields_are_stripped_and_filled_in(folder):
    assert isinstance(LongBenchV2(folder), Benchmark)
    assert text_of(LongBenchV2(folder)) == "<the text> why a b c d"
    assert text_of(LongBenchV2(folder, mode="no_context")) == "why a b c d"


def test_placeholders_inside_the_context_are_filled_in_too(folder):
    assert text_of(LongBenchV2(folder), RECORD | {"context": "$Q$ $DOC$"}) == "<why $DOC$> why a b c d"


def test_chain_of_thought_takes_two_calls_and_the_second_has_no_document(folder):
    bench = LongBenchV2(folder, mode="chain_of_thought")
    assert (LongBenchV2(folder).num_calls, bench.num_calls) == (1, 2)
    assert text_of(bench) == "think <the text> why a b c d"
    assert text_of(bench, earlier=[" it is $Q$ \n"]) == "why a b c d then it is $Q$ so"
    example = next(bench.examples())
    limits = [bench.prompt(example, plain, 500, earlier=earlier).max_new_tokens for earlier in ([], ["x"])]
    assert limits == [1024, 128]
    assert LongBenchV2(folder).prompt(example, plain, 500).max_new_tokens == 128


def test_exactly_max_length_tokens_stay(folder):
    bench = LongBenchV2(folder)
    prompt = bench.prompt(next(bench.examples()), plain, 9)
    assert len(prompt.ids) == 9  # LongBench's rule would keep 8
    assert bench.prompt(next(bench.examples()), chat, 9).uses_chat


def test_scores_and_groups(folder):
    bench = LongBenchV2(folder)
    example = next(bench.examples())
    assert bench.score(example, "The correct answer is (B)") == 1.0
    table = table_of(bench, [example] * 3, ["The correct answer is B", "", "?"])
    assert {name: value for name, value in table.items() if not math.isnan(value)} == {
        "Overall": 50.0,
        "Hard": 50.0,
        "Short": 50.0,
    }
    assert example.groups["domain"] == "Code"
    assert example.length == 2


def test_a_json_list_is_read_as_well(folder):
    (folder / "data.json").write_text(json.dumps([RECORD, RECORD | {"_id": "two"}]))
    assert [example.id for example in LongBenchV2(folder).examples()] == ["one", "two"]


@pytest.mark.parametrize(
    ("name", "value"), [("answer", "E"), ("length", "tiny"), ("difficulty", None), ("choice_D", 4), ("context", None)]
)
def test_malformed_records_name_file_line_and_field(folder, name, value):
    (folder / "data.jsonl").write_text(json.dumps(RECORD) + "\n" + json.dumps(RECORD | {name: value}))
    with pytest.raises(OfficialFileError, match=rf"data\.jsonl:2: field '{name}': expected"):
        list(LongBenchV2(folder).examples())


def test_templates_without_a_placeholder_are_refused(folder):
    (folder / "prompts" / "0shot_cot_ans.txt").write_text(CHOICES)
    with pytest.raises(OfficialFileError, match=r"0shot_cot_ans\.txt: template: expected the placeholder \$COT\$"):
        LongBenchV2(folder, mode="chain_of_thought")
    with pytest.raises(ValueError, match="correct `mode`"):
        LongBenchV2(folder, mode="cot")


@pytest.mark.parametrize("mode", MODES)
def test_the_official_files(mode):
    bench = LongBenchV2(official("longbench_v2"), mode=mode)
    assert len(bench.deviations) == 1
    assert "temperature" in bench.deviations[0]
    examples = list(bench.examples())
    assert len(examples) == 12
    prompt = bench.prompt(examples[0], chat, 3000)
    assert (prompt.num_lost > 0) == (mode != "no_context")
    right = [f"The correct answer is ({example.answers[0]})" for example in examples]
    assert table_of(bench, examples, right)["Overall"] == 100.0
