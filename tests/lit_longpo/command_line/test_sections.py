"""What no class can be made of is refused before one is."""

import pytest
from jsonargparse import Namespace
from support.command_line import parse

from lit_longpo.__main__ import main
from lit_longpo.command_line.parser import SuggestingParser
from lit_longpo.command_line.sections import lost_sections, null_values


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("policy: {source: null}", "policy.source"),
        ("policy: {template: {user: null}}", "policy.template.user"),
        ("trainer: {barebones: null}", "trainer.barebones"),
        ("data: {init_args: {num_train: null}}", "data.init_args.num_train"),
        ("data: {init_args: {on_overlength: null}}", "data.init_args.on_overlength"),  # of the class above
        ("optimization: {optimizer: {class_path: FusedAdamW, init_args: {lr: null}}}", "init_args.lr"),
        ("data: {init_args: {positions: {scheme: null, target_length: 4000}}}", "data.init_args.positions.scheme"),
    ],
)
def test_null_where_the_type_has_none_is_refused(text, name, tmp_path, capsys):
    (tmp_path / "mine.yaml").write_text(text)
    with pytest.raises(SystemExit, match="2"):
        main(["plan", "--config", "configs/solopo.yaml", "--config", str(tmp_path / "mine.yaml")])
    (told, _) = capsys.readouterr().err.splitlines()[-2:]
    assert told.startswith("error: expected a value of `")
    assert told.endswith(f"{name}`, got null; give it one, or take that line out")


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("polcy: {}", "polcy"),
        ("policy: {zq: {}}", "policy.zq"),
        ("policy: {template: {zq: {}}}", "policy.template.zq"),
        ("policy: {zq: {zp: {}}}", "policy.zq.zp"),
        ("trainer: {zq: {}}", "trainer.zq"),
        ("data: {init_args: {positons: {}}}", "positons"),
        ("data: {init_args: {positions: {zq: {}}}}", "zq"),
        ("model: {init_args: {zq: {}}}", "zq"),
        ("model: {init_args: {base: {class_path: DPO, init_args: {zq: {}}}}}", "zq"),
        ("optimization: {optimizer: {class_path: FusedAdamW, init_args: {zq: {}}}}", "zq"),
        ("trainer: {callbacks: [{class_path: LearningRateMonitor, init_args: {zq: {}}}]}", "zq"),
    ],
)
def test_unknown_sections_that_are_empty_are_refused(text, name, tmp_path, capsys):
    (tmp_path / "mine.yaml").write_text(text)
    with pytest.raises(SystemExit, match="2"):
        main(["plan", "--config", "configs/solopo.yaml", "--config", str(tmp_path / "mine.yaml")])
    (told, _) = capsys.readouterr().err.splitlines()[-2:]
    assert told.startswith("error: ")
    assert name in told


@pytest.mark.parametrize("value", ["{zq: 1}", "[]", "null", "0", "'no'"])
def test_what_is_switched_on_by_its_name_is_true_or_false_in_a_file(value, tmp_path, capsys):
    (tmp_path / "mine.yaml").write_text(f"shard: {value}")
    with pytest.raises(SystemExit, match="2"):
        main(["evaluate", "--config", "needle", "--config", str(tmp_path / "mine.yaml")])
    told = capsys.readouterr().err.splitlines()[-2]
    assert told == f"error: expected `shard` to be true or false, got {value.replace('zq', chr(39) + 'zq' + chr(39))}"


def test_known_sections_may_be_empty(tmp_path):
    text = "{policy: {template: {}}, trainer: {}, model: {init_args: {base: {class_path: ORPO, init_args: {}}}}}"
    (tmp_path / "mine.yaml").write_text(text)
    found = parse("--config", "configs/solopo.yaml", "--config", tmp_path / "mine.yaml")
    assert found.model.init_args.base.class_path.endswith(".ORPO")
    assert found.policy == parse("--config", "configs/solopo.yaml").policy


class Base:
    def __init__(self, width: int = 1, depth: int = 1) -> None: ...


class Derived(Base):
    def __init__(self, width: int | None = 1, **more: int) -> None: ...


def test_a_class_may_take_null_where_its_base_does_not():
    def found(**settings):
        section = Namespace(class_path=f"{__name__}.Derived", init_args=Namespace(**settings))
        return list(null_values(SuggestingParser(), Namespace(made=section)))

    assert found(width=None) == []
    assert found(width=None, depth=None) == ["made.init_args.depth"]


@pytest.mark.parametrize("path", ["json.loads", "FusedAdamW", "no.such.place"])
def test_what_stands_in_place_of_a_class_has_no_sections(path):
    section = Namespace(class_path=path, init_args=Namespace(s=None))
    assert list(lost_sections(SuggestingParser(), Namespace(reader=section))) == []
