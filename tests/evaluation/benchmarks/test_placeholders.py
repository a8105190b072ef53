import pytest
from hypothesis import given
from hypothesis import strategies as st

from evaluation.benchmarks.placeholders import check_placeholders


@pytest.mark.parametrize("template", ["{context}", "{context} {{literal}} {input}"])
def test_templates_with_known_placeholders(template):
    assert check_placeholders(template, "file") == template


@pytest.mark.parametrize("template", ["{input}", "{context} {other}", "{context!r}", "{context:>9}", "{context", "{}"])
def test_other_templates_are_refused(template):
    with pytest.raises(ValueError, match=r"^prompts:3: expected"):
        check_placeholders(template, "prompts:3")


@given(st.text(alphabet="{}contexipu !:.[]", max_size=30))
def test_templates_are_accepted_or_refused_but_never_fail_later(template):
    try:
        check_placeholders(template, "file")
    except ValueError:
        return
    assert "C" in template.format(context="C", input="I")
