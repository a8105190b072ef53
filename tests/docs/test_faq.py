"""The questions have a public thread each, and the figures of their answers are what the commands print."""

import re

import pytest
from support import pages
from support.page_commands import page_lines

from lit_longpo.__main__ import register_classes
from lit_longpo.planning.command import plan_for
from lit_longpo.planning.plan import GIB

PAGE = pages.text("docs/faq.md")
THREAD = re.compile(r"\*\* \(\[[\w.-]+#\d+\]\(https://github\.com/[\w./-]+/(?:issues|pull)/\d+\)")
QUESTIONS = re.findall(r"^\*\*.+$", PAGE, re.M)


def test_every_question_has_its_thread():
    assert len(QUESTIONS) >= 15
    for question in QUESTIONS:
        assert THREAD.search(question), question


def test_labels_of_threads_are_their_numbers():
    threads = re.findall(r"\[[\w.-]+#(\d+)\]\(https://github\.com/\S+/(\d+)\)", PAGE)
    assert len(threads) >= len(QUESTIONS)
    assert all(label == number for label, number in threads)


@pytest.fixture(autouse=True)
def classes():
    """By the short names that configurations use."""
    register_classes()


@pytest.mark.slow
def test_what_it_says_of_48_gib_is_planned():
    [words] = [line.ours for line in page_lines() if line.page == "docs/faq.md" and line.ours[0] == "plan"]
    made = plan_for(list(words[1:]))
    assert f"{made.memory[made.mode].peak / GIB:.1f} GiB" in PAGE
    assert sum(f"{tokens:,}" in PAGE for tokens in made.longest_context.values()) == 3  # all but everything kept


@pytest.mark.slow
def test_what_it_says_of_one_long_row_is_planned():
    words = "--config configs/real/orpo.yaml --policy.source Qwen/Qwen3-8B --shape qwen3_8b --data.path my_pairs.jsonl"
    made = plan_for([*words.split(), "--data.max_tokens", "40960", "--data.max_examples", "1"])
    kept, recomputed = (made.memory[mode].peak / GIB for mode in (made.mode, "recompute"))
    said = f"row of 40,960 tokens is planned at {kept:.1f} GiB, and at {recomputed:.1f} with"
    assert said in PAGE
