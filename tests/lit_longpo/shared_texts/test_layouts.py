"""Documents that are laid out otherwise elsewhere, against a comparison of every record with every other."""

from hypothesis import given
from hypothesis import strategies as st

from lit_longpo.shared_texts.documents import DocumentKeys
from lit_longpo.shared_texts.keys import AROUND_FACTS, CONTEXT, FACTS, MESSAGE
from lit_longpo.shared_texts.layouts import about_documents_of

PARTS = st.frozensets(st.integers(0, 8), max_size=6)
RECORDS = st.lists(
    st.one_of(
        st.fixed_dictionaries({MESSAGE: PARTS}),
        st.fixed_dictionaries({CONTEXT: PARTS}),
        st.fixed_dictionaries({AROUND_FACTS: PARTS, FACTS: PARTS}),
    ),
    max_size=6,
)


def keys(records):
    """A whole text's odd key before the parts, which says nothing here."""
    return DocumentKeys.of([[1, *(8 * part + kind for kind in one for part in one[kind])] for one in records])


def about(one, other, contexts):
    for kind, parts in one.items():
        for others_kind, others in other.items():
            kinds, shared = {kind, others_kind}, len(parts & others)
            if not shared or kinds == {MESSAGE} or (MESSAGE not in kinds and not contexts):
                continue
            if kinds in ({MESSAGE, CONTEXT}, {MESSAGE, FACTS}) or 3 * shared >= min(len(parts), len(others)):
                return True
    return False


@given(RECORDS, RECORDS, st.booleans())
def test_records_are_compared_as_one_by_one(records, others, contexts):
    found = about_documents_of(keys(others), keys(records), contexts=contexts)
    assert found.tolist() == [any(about(one, other, contexts) for other in others) for one in records]
