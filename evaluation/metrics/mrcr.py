"""OpenAI-MRCR: one of several equal requests of a long conversation, answered once more. Read in openai/mrcr's card."""

from collections.abc import Sequence
from difflib import SequenceMatcher

from lit_longpo.errors import InputError


def score(task: str, prediction: str, answers: Sequence[str], prefix: str | None = None) -> float:
    """Similarity to the wanted answer, 0 to 1; 0 for a response that does not begin with the prefix.

    Nothing is stripped. The two texts are not interchangeable, and difflib passes over characters that are frequent
    in answers of 200 characters and more, as in the official function.

    Args:
        task: "2needle", "4needle" or "8needle"; the score is the same.
        prediction: generated text.
        answers: the wanted answer, prefix included.
        prefix: random characters that the response has to begin with (`random_string_to_prepend`).

    Raises:
        InputError: there is no prefix, or not one answer.
    """
    if not prefix or len(answers) != 1:
        raise InputError(
            f"expected one answer and the prefix of its record, got {len(answers)} and {prefix!r:.40}; pass "
            "prefix=record['random_string_to_prepend']"
        )
    if not prediction.startswith(prefix):
        return 0.0
    return SequenceMatcher(None, prediction.removeprefix(prefix), answers[0].removeprefix(prefix)).ratio()
