"""Files of settings that no library should read: endless, nested without end, or with a key twice."""

import pytest
import yaml

from lit_longpo.errors import InputError
from lit_longpo.files.plain_yaml import check_plain, settings_in

TENFOLD = "".join(f"a{i}: &a{i} [{', '.join(['*a' + str(i - 1)] * 10)}]\n" for i in range(1, 9))
ENDLESS = {
    "a billion": ("a0: &a0 [x, x]\n" + TENFOLD, r"at most 1,000,000 values in .*, got more at line 7"),
    "itself": ("policy: &p\n  lora: *p\n", r"`\*p` to end somewhere, which stands inside of `&p` itself in .*line 2"),
    "deep": ("[" * 101 + "]" * 101, "at most 100 sections or lists inside each other"),
    "deep by names": (
        "a0: &a0 [1]\n" + "".join(f"a{i}: &a{i} [*a{i - 1}]\n" for i in range(1, 120)),
        "at most 100 sections or lists inside each other in .*, got more at line 1",
    ),
}


@pytest.mark.parametrize("name", ENDLESS)
def test_what_names_repeat_without_end_is_refused_at_once(name, tmp_path):
    """Ten lines that stand for a billion values kept `fit` busy for ever."""
    text, said = ENDLESS[name]
    (tmp_path / "gift.yaml").write_text(text)
    with pytest.raises(InputError, match=f"^expected {said}"):
        check_plain(tmp_path / "gift.yaml")


def test_names_that_end_are_repeated(tmp_path):
    (tmp_path / "own.yaml").write_text("a: &a {x: 1}\nb: [*a, *a, {<<: *a}]\n")
    check_plain(tmp_path / "own.yaml")


def test_what_may_come_twice_in_a_file(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("a: &a {x: 1, 1: 2, '1': 3}\nb: {<<: *a, <<: *a, x: 2}\nc: [*a, {x: 1}, x, x]\n")
    check_plain(path)
    check_plain(tmp_path / "none.yaml")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a:\n- b: {1: x,\n   c: 2, 1: 3}\n", "got `1` at line 2 and again at line 3"),
        ("a: 1\nb: {a: 1}\n'a': 2\n", "got `a` at line 1 and again at line 3"),
        ("a: &x [1]\n? *x\n: 2\nb: {c: [{d: 1}, {d: 2}], e: 1,\n  c: 2}\n", "got `c` at line 4 and again at line 5"),
    ],
)
def test_a_key_that_comes_twice_is_refused(text, said, tmp_path):
    """YAML would keep the last value without a word."""
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    with pytest.raises(InputError, match=f"^expected each key once in a section of .*mine.yaml, {said}; take one"):
        check_plain(path)
    path.write_text(text + "{\n")  # whoever reads it says where it is no YAML
    check_plain(path)


@pytest.mark.parametrize(
    ("content", "keys"),
    [
        (b"model: DPO\n1: x\n", ["model", "1"]),
        (b"- model\n", []),
        (b"when: 2024-13-45\n", ["when"]),  # no date, which whoever reads it says
        (b"\xff\xfe\x00", []),
        (b"a: [\n", []),
    ],
)
def test_a_file_that_cannot_be_read_has_no_sections(content, keys, tmp_path):
    (tmp_path / "mine.yaml").write_bytes(content)
    assert list(settings_in(tmp_path / "mine.yaml")) == keys
    assert settings_in(tmp_path / "none.yaml") == {}


@pytest.mark.parametrize(("value", "read"), [("010", 8), ("-017", -15), ("1:30", 90), ("00", 0), ("1:30.5", 90.5)])
def test_numbers_that_yaml_reads_otherwise_are_refused(value, read, tmp_path):
    """YAML 1.1 has octal and sexagesimal numbers: `max_steps: 010` trained 8 steps, the same word typed 10."""
    path = tmp_path / "mine.yaml"
    path.write_text(f"trainer: {{max_steps: {value}}}\n")
    assert yaml.safe_load(path.read_text())["trainer"]["max_steps"] == read
    with pytest.raises(InputError, match=rf"got {value}, which YAML reads as {read}, at line 1"):
        check_plain(path)


@pytest.mark.parametrize(
    "value", ["10", "0", "-3", "0.5", "'010'", "08:15:00:00", "1_000", "2024-07-26", "0x10", "1e-5"]
)
def test_numbers_in_the_usual_way_may_stand(value, tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text(f"name: {value}\n")
    check_plain(path)
