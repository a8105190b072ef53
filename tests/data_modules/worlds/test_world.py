import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_modules.worlds.world import NAMES, VALUES, VERBS, World, num_words_of

seeds = st.integers(0, 10_000)
hops = st.integers(1, 3)


def made(seed, hops, words=60, split="train"):
    world = World(split, seed)
    question = world.question(hops)
    return world, question, world.distractors(words)


@given(seeds, hops)
@settings(max_examples=50, deadline=None)
def test_the_same_seed_gives_the_same_world(seed, count):
    first, second = made(seed, count), made(seed, count)
    assert first[1:] == second[1:]
    assert first[0].arrange(first[1].supporting, first[2]) == second[0].arrange(second[1].supporting, second[2])
    assert made(seed, count, split="test")[1:] != first[1:]


@given(seeds, hops)
@settings(max_examples=50, deadline=None)
def test_the_supporting_facts_lead_to_the_answer_and_nothing_contradicts_them(seed, count):
    _, question, distractors = made(seed, count)
    assert len(question.supporting) == count
    for before, after in zip(question.supporting, question.supporting[1:], strict=False):
        assert before.value == after.person
    assert question.supporting[-1].value == question.answer
    assert question.text.startswith(VERBS[question.attribute])
    assert question.text.endswith(question.supporting[0].person)
    stated = [(fact.person, fact.name) for fact in (*question.supporting, *distractors)]
    assert len(stated) == len(set(stated))


@given(seeds, st.integers(0, 200))
@settings(max_examples=50, deadline=None)
def test_lengths_are_kept_within_one_sentence(seed, words):
    world = World("train", seed)
    total = sum(num_words_of(fact.sentence) for fact in world.distractors(words))
    assert words <= total < words + 4 or total == words == 0


@given(seeds, st.integers(1, 7))
@settings(max_examples=50, deadline=None)
def test_wrong_answers_are_of_the_same_kind_and_stated_if_possible(seed, count):
    world, question, distractors = made(seed, 1)
    wrong = world.wrong_answers(question, distractors, count)
    assert len(set(wrong)) == count
    assert question.answer not in wrong
    assert set(wrong) <= set(VALUES[question.attribute])
    near = {fact.value for fact in distractors if fact.name == question.attribute} - {question.answer}
    assert len(near & set(wrong)) == min(count, len(near))


@pytest.mark.parametrize("depth", [0.0, 0.25, 0.5, 1.0])
def test_depth_is_where_the_facts_lie(depth):
    world, question, distractors = made(3, 2, words=400)
    text = world.arrange(question.supporting, distractors, depth)
    where = text.index(question.supporting[0].sentence) / (len(text) - len(question.supporting[0].sentence))
    assert where == pytest.approx(depth, abs=0.03)


def test_nobody_appears_twice_while_people_are_left():
    _, question, distractors = made(2, 1, words=92)
    people = [fact.person for fact in (*question.supporting, *distractors)]
    assert len(people) == len(set(people))


def test_a_full_world_repeats_itself_but_never_the_answer():
    _, question, distractors = made(0, 1, words=4 * len(NAMES) * len(VERBS) + 40)
    assert len(set(distractors)) == len(NAMES) * len(VERBS) - 1
    assert question.supporting[0] not in distractors


def test_a_question_needs_people_not_mentioned_yet():
    world = World("train", 0)
    world.distractors(4 * len(NAMES))
    with pytest.raises(ValueError, match="not mentioned yet"):
        [world.question() for _ in range(10)]
