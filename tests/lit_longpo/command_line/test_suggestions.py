"""What is suggested where a class should have been named; tests/lit_longpo/test_cli.py asks whole command lines."""

from lit_longpo.command_line.suggestions import _expected_class


def test_a_kind_of_class_without_any_and_without_settings_is_named():
    class Lone:
        pass

    assert _expected_class("rule", Lone, "mine") == (
        "expected `rule` to name a Lone with its module, got mine; type --rule package.Class"
    )
