import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evaluation.metrics import score
from evaluation.metrics.rouge_l import rouge_l

rouge = pytest.importorskip("rouge", reason='needs pip install "lit_longpo[eval]"')


def long_answer(num_words):
    """Against its first word alone the package's walk takes `num_words` recursive steps."""
    return " ".join(f"w{number}" for number in range(num_words))


@pytest.mark.parametrize("text", ["same words here", "x"])
def test_a_perfect_match_is_almost_one(text):
    assert rouge_l(text, text) == pytest.approx(1 - 5e-9, abs=1e-12)
    assert rouge_l(text, text) < 1.0


def test_words_count_once():
    """Sets {a, b} and {a}: precision 1/2, recall 1; with repeats precision would be 3/4."""
    assert rouge_l("a a a b", "a") == pytest.approx(2 * 0.5 / 1.5, abs=1e-7)


def test_only_full_stops_end_sentences():
    """Sentences may swap places, "!" ends none: then the order of words matters."""
    assert rouge_l("b. a", "a. b") == pytest.approx(1.0, abs=1e-7)
    assert rouge_l("b! a!", "a! b!") == pytest.approx(0.5, abs=1e-7)


@pytest.mark.parametrize(("prediction", "answer"), [("", "a"), ("a", ""), ("...", "a"), ("", "")])
def test_what_the_package_refuses_is_zero(prediction, answer):
    with pytest.raises(ValueError, match="empty"):
        rouge.Rouge().get_scores([prediction], [answer], avg=True)
    assert rouge_l(prediction, answer) == 0.0


texts = st.text(alphabet="ab .\u3002\n", max_size=30)


@given(texts, texts)
@settings(max_examples=60, deadline=None)
def test_it_is_the_package_otherwise(prediction, answer):
    try:
        expected = rouge.Rouge().get_scores([prediction], [answer], avg=True)["rouge-l"]["f"]
    except ValueError:
        expected = 0.0
    assert rouge_l(prediction, answer) == expected


# A scorer of the official shape: a script whose loop calls a metric that swallows every exception.
SCRIPT = """
from rouge import Rouge

def english(prediction, answer):
    package = Rouge()
    try:
        return package.get_scores([prediction], [answer], avg=True)["rouge-l"]["f"]
    except Exception:
        return 0.0

def chinese(prediction, answer):
    return english(prediction, answer)

def scorer(metric):
    for steps in range(950, 1050):
        if metric("w0", " ".join(f"w{number}" for number in range(steps))) == 0.0:
            return steps

print(scorer(english), scorer(chinese))
"""


@pytest.fixture(scope="module")
def official_limits():
    """First numbers of steps at which a script of its own gives up, English and Chinese."""
    out = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True).stdout
    return [int(number) for number in out.split()]


def called_from(depth, function):
    return called_from(depth - 1, function) if depth else function()


@pytest.mark.parametrize("language", [0, 1])
@pytest.mark.parametrize("depth", [0, 300])
def test_the_recursion_limit_cuts_where_the_official_script_is_cut(official_limits, language, depth):
    steps = official_limits[language]
    below = called_from(depth, lambda: rouge_l("w0", long_answer(steps - 1), official_depth=language))
    above = called_from(depth, lambda: rouge_l("w0", long_answer(steps), official_depth=language))
    assert below > 0.0  # the naive call, this deep in the stack, would be cut already
    assert above == 0.0


@pytest.mark.parametrize(
    ("benchmark", "dataset", "language"),
    [("longbench", "gov_report", 0), ("longbench", "vcsum", 1), ("lveval", "dureader_mixup", 1)],
)
def test_every_task_is_cut_where_its_official_call_is(official_limits, benchmark, dataset, language):
    """Chinese tasks call the package from one function deeper, so they are cut one step earlier."""
    steps = official_limits[language]
    assert score(benchmark, dataset, "w0", [long_answer(steps - 1)]) > 0.0
    assert score(benchmark, dataset, "w0", [long_answer(steps)]) == 0.0


def test_a_raised_recursion_limit_does_not_move_scores(official_limits):
    before = sys.getrecursionlimit()
    sys.setrecursionlimit(before + 2000)
    try:
        assert rouge_l("w0", long_answer(official_limits[0])) == 0.0
        assert rouge_l("w0", long_answer(official_limits[0] - 1)) > 0.0
    finally:
        sys.setrecursionlimit(before)
