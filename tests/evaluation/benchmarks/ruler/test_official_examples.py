"""Against examples that the official generators made, where this machine has them."""

import hashlib
import json
import random
from collections import Counter

import pytest
from support.official_data import official
from support.ruler_files import WORDS, WordFormat, official_layout

from evaluation.benchmarks.ruler import RULER

pytestmark = pytest.mark.slow  # a minute
# Sizes that do not depend on what is drawn; elsewhere long words or documents make one example fit and another not.
FIXED = ("niah_single_1", "niah_multikey_3", "vt", "fwe")


@pytest.fixture(scope="module")
def bench(tmp_path_factory):
    shared, folder = official("ruler"), tmp_path_factory.mktemp("ruler")
    rows = (official("multihop") / "hotpotqa_train_100.jsonl").read_text().splitlines()
    (folder / "hotpotqa.json").write_text(json.dumps([json.loads(row) for row in rows]))
    return RULER(
        official_layout(shared, folder / "scripts"),
        lengths=(4096, 2048),
        num_examples=3,
        essays=shared / "examples/haystack_alice.json",
        squad=official("squad") / "xquad.en.json",
        hotpotqa=folder / "hotpotqa.json",
    )


@pytest.fixture(scope="module")
def structure():
    rows = [json.loads(line) for line in (official("ruler") / "structure.jsonl").read_text().splitlines()]
    groups = {}
    for row in rows:
        groups.setdefault((row["task"], row["max_seq_length"]), []).append(row)
    return groups


def test_the_texts_are_the_official_ones(bench):
    assert not [line for line in bench.deviations if line.startswith(("needle", "noise", "document", "niah", "synth"))]


def test_lengths_and_contents_are_those_of_the_official_examples(bench, structure):
    form = WordFormat()
    for (task, length), rows in structure.items():
        generator = bench._generators[task]
        examples = [item for item in bench.examples(task) if item.length == length]
        prompts = [bench.prompt(item, form, 10**6) for item in examples]
        lengths = [len(prompt.ids) + generator.template.max_new_tokens for prompt in prompts]
        assert [len(item.answers) for item in examples] == [len(row["outputs"]) for row in rows]
        assert max(lengths) <= length
        if task in FIXED:
            assert lengths == [row["length"] for row in rows], task
        elif not task.startswith("qa"):
            assert max(lengths) == pytest.approx(max(row["length"] for row in rows), abs=40), task


def test_word_lists_are_built_alike(bench, structure):
    for length in (2048, 4096):
        row, size = structure["cwe", length][0], bench._fitting._size("cwe", length, WordFormat())
        message, _ = bench.texts("cwe", length, 0, size)
        parts = message.split("Below is")[1:]
        counts = [Counter(Counter(part.split("\n")[1].split()[1::2]).values()) for part in parts]
        assert len(parts) == 2
        assert {str(times) for times in counts[0]} >= set(row["shot_counts"])
        assert counts[1][max(counts[1])] >= 9  # the ten common words, less what has a blank
        assert str(max(counts[1])) in row["counts"]


def in_official_order(bench, task, length, *, once=False):
    """Rows drawn from one state of random numbers, as the official script does it."""
    generator, draw = bench._generators[task], random.Random(42)
    kept = generator.hidden(draw, length, 0) if once else None

    def made(size, row=0, hidden=None):
        hidden = generator.hidden(draw, length, row) if hidden is None else hidden
        context = generator.context(hidden, draw, size)
        asked = generator.asked(hidden, draw)
        return generator.message(hidden, asked, context), generator.answer_prefix(asked)

    def count(texts):
        return len(WORDS.findall("".join(texts)))

    size = generator.size(lambda size: count(made(size, hidden=kept)), length)
    for row in range(3):
        used, hidden = size, generator.hidden(draw, length, row) if once else None
        while count(texts := made(used, row, hidden)) > generator.room(length):
            used -= generator.step(length)
        yield texts


@pytest.mark.parametrize("task", ["niah_single_1", "niah_multikey_2", "niah_multikey_3", "fwe", "qa_1", "qa_2"])
def test_the_same_draws_make_the_same_examples(bench, structure, task):
    if "words" in bench._official.arguments[task].values.values():
        wonderwords = pytest.importorskip("wonderwords")
        assert not bench._words.deviations, wonderwords
    for length in (4096, 2048):
        rows = structure.get((task, length), [])
        made = list(in_official_order(bench, task, length, once=task == "fwe")) if rows else []
        for (message, prefix), row in zip(made, rows, strict=True):
            assert hashlib.sha256(prefix.encode()).hexdigest() == row["answer_prefix_sha256"]
            assert hashlib.sha256(message.encode()).hexdigest() == row["input_sha256"], (task, length)
