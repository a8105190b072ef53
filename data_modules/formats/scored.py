"""TRL's columns with scores or ratings beside them: UltraFeedback, Tulu, OpenRLHF."""

import sys
from typing import ClassVar

from data_modules.files.delimited import as_number
from data_modules.formats.base import Record
from data_modules.formats.trl import TRLPreference
from data_modules.records import PreferencePair
from lit_longpo.files.strict_json import RecordError

_TIE = "chosen and rejected have the same score: nothing says which is better; take them out if these are ties"


class ScoredPreference(TRLPreference):
    """TRL's columns, with a score of either answer; a rejected answer with the better one is an error.

    Attributes:
        scores: names of the pairs of scores, chosen first.
        own_names: other columns that only such data has.
    """

    own_names: ClassVar[tuple[str, ...]] = ()
    scores: ClassVar[tuple[tuple[str, str], ...]]

    def matches(self, record: Record) -> bool:
        """TRL's columns, and a score or a companion that is this data's own."""
        telling = {*self.own_names, *(field for names in self.scores for field in names)}
        return super().matches(record) and not telling.isdisjoint(record)

    def extras(self, record: Record) -> list[str]:
        """Scores are checked, though no objective reads them."""
        known = {field for names in self.scores for field in names}
        return [field for field in super().extras(record) if field not in known]

    def note(self, record: Record) -> str:
        """Of ties, which published data keeps: which answer is chosen was drawn, and is trained like any other."""
        pairs = [[_score(record, field, "") for field in names] for names in self.scores]
        return _TIE if any(None is not better == worse for better, worse in pairs) else ""

    def pair(self, record: Record, where: str, name: str) -> PreferencePair:
        """See `RecordFormat`."""
        for chosen, rejected in self.scores:
            better, worse = (_score(record, field, where) for field in (chosen, rejected))
            if better is not None and worse is not None and better < worse:
                expected = f"a score of at least {worse}, that of `rejected`"
                raise RecordError.at(where, f"field {chosen!r}", expected, better)
        return super().pair(record, where, name)


class UltraFeedback(ScoredPreference):
    """UltraFeedback's binarised forms: `score_chosen`, `score_rejected`; or `chosen-rating`, `rejected-rating`."""

    name = "ultrafeedback"
    fields = ("prompt", "short_prompt", "chosen", "rejected", "system", "prompt_id")
    companions = ("messages", "source", "chosen-model", "rejected-model", "id")
    scores = (("score_chosen", "score_rejected"), ("chosen-rating", "rejected-rating"))
    id_field = "prompt_id"


class Tulu(ScoredPreference):
    """Tulu's preference mixtures: `chosen_rating`, `rejected_rating`, models and source."""

    name = "tulu"
    own_names = ("chosen_model", "rejected_model")
    companions = ("source", "chosen_model", "rejected_model", "messages")
    scores = (("chosen_rating", "rejected_rating"),)


class OpenRLHF(ScoredPreference):
    """OpenRLHF's mixtures: `chosen_score`, `rejected_score` and source."""

    name = "openrlhf"
    companions = ("source",)
    scores = (("chosen_score", "rejected_score"),)


def _score(record: Record, field: str, where: str) -> float | None:
    value = as_number(record.get(field))
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) <= sys.float_info.max:
        raise RecordError.at(where, f"field {field!r}", "a number", value)
    return float(value)
