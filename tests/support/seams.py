"""All pairs compared at once; data modules compare them on their way."""

from collections.abc import Iterable

from data_modules.records import PreferencePair
from data_modules.rows.seams import SeamComparison, SeamReport
from lit_longpo.batch import Views
from lit_longpo.policy import PromptFormat


def compare_seams(
    prompt_format: PromptFormat, pairs: Iterable[PreferencePair], views: Views, *, long_from_short: bool = False
) -> SeamReport:
    """Compare all pairs; see `SeamComparison`."""
    comparison = SeamComparison(prompt_format, views, long_from_short=long_from_short)
    for _ in comparison.compared(pairs):
        pass
    return comparison.report()
