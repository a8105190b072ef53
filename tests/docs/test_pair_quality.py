"""Pairs whose quality is changed on purpose: what is changed, how much of it, and nothing else."""

from dataclasses import replace

from results import pair_quality
from results.cells import Settings
from results.outcomes import Outcome, collect
from results.pair_quality import Mistakes, counts, easy, flipped, labelled, shipped, untrained
from results.suites import SUITES
from results.suites.embedded import QUALITIES
from results.tables import markdown

from data_modules.builders.generators.margins import margins_of
from data_modules.records import read_pairs
from data_modules.worlds.world import VALUES

KIND = {value: kind for kind, values in VALUES.items() for value in values}
PAIRS = shipped(seed=3, count=20)


def test_flips_are_so_many_and_swap_both_answers():
    swapped = {pair.id: pair for pair in flipped(PAIRS, 0.3, seed=3)}
    wrong = {name.removesuffix("-flipped") for name in swapped if name.endswith("-flipped")}
    assert len(wrong) == 6
    for pair in PAIRS:
        found = swapped[pair.id + "-flipped" * (pair.id in wrong)]
        expected = (pair.chosen, pair.rejected[0]) if pair.id not in wrong else (pair.rejected[0], pair.chosen)
        assert (found.chosen, *found.rejected) == expected
        assert replace(found, id=pair.id, chosen=pair.chosen, rejected=pair.rejected) == pair
    assert [pair.id for pair in flipped(PAIRS, 0.3, seed=4)] != list(swapped)


def test_easy_answers_are_of_another_kind_and_not_in_the_context_unless_all_are():
    for pair in PAIRS:
        [found] = easy(pair, seed=3).rejected
        stated = set(pair.long_context.split())
        others = {value for value, kind in KIND.items() if kind != KIND[pair.chosen]}
        assert found in others
        assert found not in stated or others <= stated


def test_mistakes_are_the_likeliest_wrong_values():
    """Against log-probabilities of whole answers, a sequence each."""
    policy = untrained()
    mistakes, model = Mistakes(policy), policy.load_base()
    for pair in PAIRS[:3]:
        others = tuple(value for value in VALUES[KIND[pair.chosen]] if value != pair.chosen)
        turn = replace(pair, short_context=pair.long_context, rejected=others).all_turns[0]
        gaps = dict(zip(others, margins_of(model, policy.prompt_format(), turn), strict=True))
        assert gaps[mistakes.of(pair).rejected[0]] == min(gaps.values())


def test_filter_undoes_flips_where_its_model_reads_the_short_context():
    pairs, policy = flipped(PAIRS[:10], 0.3, seed=3), untrained()
    assert counts(labelled(pairs, policy)) == {"flipped": 3, "flipped, kept": 0, "right": 7, "right, left out": 0}
    long = labelled(pairs, policy, reads_long=True)
    assert [replace(pair, verified=None) for pair in long] == pairs
    assert 0 < counts(long)["right, left out"] < 7


def test_pairs_that_nobody_could_tell_are_kept():
    pairs = [
        replace(pair, verified=told) for pair, told in zip(flipped(PAIRS[:3], 1.0, 0), (None, True, False), strict=True)
    ]
    assert counts([*pairs, PAIRS[3]]) == {"flipped": 3, "flipped, kept": 2, "right": 1, "right, left out": 0}


def test_every_file_of_the_suite_is_made_and_its_counts_are_shown(tmp_path):
    pair_quality.main(["make", "--seed", "3", "--count", "4", "--output", str(tmp_path)])
    cells = {cell.key: cell for cell in SUITES["embedded"].cells(Settings(tmp_path, seeds=(3,)), ["*"])}
    made = cells["pairs-seed3"].made
    assert {f"{file}.jsonl" for file, _ in QUALITIES.values()} < set(made)
    assert all(len(read_pairs(tmp_path / name)) == 4 for name in made)
    pair_quality.main(["count", "--pairs", str(tmp_path), "--output", str(tmp_path)])
    where = {"torch": "1", "commit": "c"}
    collect(cells["filter-seed3"], tmp_path, ("count",), where).save(tmp_path / "stored")
    scores = {length: {"0": "1"} for length in ("64", "256", "384", "512")}
    Outcome("base", 0, "", where, scores=scores).save(tmp_path / "stored")
    said = "filter-seed3, which reads the short context: of 1 flipped pairs it keeps 0, of 3 others it leaves out 0."
    assert said in markdown(SUITES["embedded"], tmp_path / "stored")
