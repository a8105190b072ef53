import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evaluation.benchmark import BenchmarkReport
from evaluation.figures import heat_map
from evaluation.needle import Haystack, NeedleBenchmark, TextHaystack
from lit_longpo.policy import PolicyConfig


def num_words(text):
    return len(text.split())


@given(st.integers(10, 300), st.sampled_from([0.0, 0.3, 1.0]), st.integers(0, 50))
@settings(max_examples=40, deadline=None)
def test_prose_honours_length_depth_and_index(length, depth, index):
    context, question, answers = TextHaystack().needle(length, depth, index, num_words)
    assert length <= num_words(context) < max(length, 7) + 12
    assert context.count(answers[0]) == 1
    fact = next(part for part in context.split(". ") if "secret code" in part)
    assert question.removeprefix("What is the secret code of ").removesuffix("?") in fact
    if depth in (0.0, 1.0):
        assert context.startswith(fact) or context.rstrip(".").endswith(fact.rstrip("."))
    assert TextHaystack().needle(length, depth, index, num_words) == (context, question, answers)


def test_a_text_file_serves_as_hay(tmp_path):
    book = tmp_path / "book.txt"
    book.write_text("One sentence here. Another one there.\nA third one. ")
    context, _, _ = TextHaystack(str(book)).needle(200, 0.5, 0, num_words)
    assert "Another one there." in context
    with pytest.raises(FileNotFoundError):
        TextHaystack(str(tmp_path / "none.txt")).needle(20, 0.5, 0, num_words)


def test_the_haystacks_satisfy_the_protocol():
    from data_modules import WorldHaystack

    assert isinstance(TextHaystack(), Haystack)
    assert isinstance(WorldHaystack(), Haystack)


class Echo:
    """Hides the answer nowhere and everywhere: the first cell is always right, others never."""

    def needle(self, length, depth, index, num_tokens):
        return "word1 word2", "word3", ("",) if depth == 0.0 else ("impossible",)


@pytest.fixture(scope="module")
def report(policy_folder):
    policy = PolicyConfig(source=str(policy_folder))
    benchmark = NeedleBenchmark(Echo(), (8, 16), (0.0, 1.0), 3, max_new_tokens=2)
    return benchmark.run(policy.load(), policy.prompt_format(), step=7)


def test_the_grid_is_complete_and_scored(report):
    assert len(report.predictions) == 12
    assert report.by_cell() == {(0.0, 8): 1.0, (0.0, 16): 1.0, (1.0, 8): 0.0, (1.0, 16): 0.0}
    assert report.by_length() == {8: 0.5, 16: 0.5}
    assert report.mean == 0.5


def test_reports_survive_the_disk(report, tmp_path):
    report.save(tmp_path / "deep" / "report.json")
    assert BenchmarkReport.load(tmp_path / "deep" / "report.json") == report
    assert json.loads((tmp_path / "deep" / "report.json").read_text())["scores"]["mean"] == 0.5


def test_the_heat_map_shows_every_cell(report):
    axes = heat_map(report).axes[0]
    assert sorted(text.get_text() for text in axes.texts) == ["0%", "0%", "100%", "100%"]
    assert "step 7" in axes.get_title()
