from lit_longpo.training.difficulty import Difficulty


def test_shares_and_histogram_by_hand():
    found = Difficulty((3.0, 0.25, 0.5, -0.25, 0.0, 40.0), "nats").as_json()
    assert found == {
        "pairs": 6,
        "ranked_right": 4 / 6,
        "measure": "nats",
        "median_margin": 0.5,
        "margins": {
            "-0.5 .. 0": 2, "0 .. 0.5": 2, "0.5 .. 1": 0, "1 .. 2": 0, "2 .. 4": 1, "4 .. 8": 0, "8 .. 16": 0,
            "> 16": 1,
        },
    }  # fmt: skip
    assert list(Difficulty((-20.0, -16.0, -15.0), "nats").histogram().values()) == [2, 1]


def test_easy_is_above_nineteen_in_twenty():
    assert not Difficulty((1.0,) * 19 + (0.0,), "nats").is_easy
    assert Difficulty((1.0,) * 20 + (0.0,), "nats").is_easy
