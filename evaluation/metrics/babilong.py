"""BABILong (Kuratov et al., arXiv 2406.10149): facts of bAbI in a book, one label. Read at booydar/babilong 7a6efee."""

from collections.abc import Sequence

from lit_longpo.errors import InputError

_ROOMS = frozenset({"bathroom", "bedroom", "garden", "hallway", "kitchen", "office"})
_YES_NO = frozenset({"no", "yes"})
LABELS = {
    "qa1": _ROOMS,
    "qa2": _ROOMS,
    "qa3": _ROOMS,
    "qa4": _ROOMS,
    "qa5": frozenset({"bill", "fred", "jeff", "mary", "apple", "football", "milk"}),
    "qa6": _YES_NO,
    "qa7": frozenset({"none", "one", "two", "three"}),
    "qa8": frozenset({"apple", "football", "milk", "nothing"}),
    "qa9": _YES_NO,
    "qa10": frozenset({"maybe", "no", "yes"}),
    "qa11": _ROOMS,
    "qa12": _ROOMS,
    "qa13": _ROOMS,
    "qa14": frozenset({"bedroom", "cinema", "kitchen", "office", "park", "school"}),
    "qa15": frozenset({"cat", "mouse", "sheep", "wolf"}),
    "qa16": frozenset({"gray", "green", "white", "yellow"}),
    "qa17": _YES_NO,
    "qa18": _YES_NO,
    "qa19": frozenset(["e,e", "e,n", "e,s", "n,e", "n,n", "n,w", "s,e", "s,s", "s,w", "w,n", "w,s", "w,w"]),
    "qa20": frozenset({"bedroom", "bored", "garden", "hungry", "kitchen", "thirsty", "tired"}),
}
_ENDS = (".", "<context>", "<example>")


def score(task: str, prediction: str, answers: Sequence[str], question: str | None = None) -> float:
    """1.0 if the first sentence names the target and no other label, else 0.0.

    Labels are looked for as characters ("know" holds "no", "none" holds "one"), and what the question names does not
    count, a target neither. Several things of qa8 have to be named all, in any order.

    Args:
        task: "qa1" to "qa20".
        prediction: generated text.
        answers: the target, one text.
        question: of the record.

    Raises:
        InputError: an unknown task, no question, or not one target.
    """
    if task not in LABELS:
        raise InputError(f"expected a task of {', '.join(LABELS)}, got {task!r}")
    if question is None or len(answers) != 1:
        raise InputError(
            f"expected one target and its question, got {len(answers)} and {question!r}; pass [record['target']] and "
            "question=record['question']"
        )
    labels = {label for label in LABELS[task] if label not in question.lower()}
    return float({label for label in labels if label in _first_sentence(prediction)} == _wanted(task, answers[0]))


def _first_sentence(prediction: str) -> str:
    text = prediction.lower()
    for end in _ENDS:
        text = text.partition(end)[0]
    return text


def _wanted(task: str, target: str) -> set[str]:
    """Things that have to be named: a direction of qa19 has a comma of its own."""
    text = target.lower()
    return {text} if text in LABELS[task] else set(text.split(","))
