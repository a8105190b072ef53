"""InfiniteBench (Zhang et al., arXiv 2402.13718): the scores of its own scorer, quirks included.

Read at OpenBMB/InfiniteBench 88b3daa. References come as its files have them: a text, a number or a list. One thing
differs: where the official scorer raises, on a decimal number for a whole one in Math.Find, the score is 0.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from evaluation.metrics.extras import require
from evaluation.metrics.text import english_tokens, normalize_chinese, token_f1
from lit_longpo.errors import InputError, InputTypeError, did_you_mean

Reference = str | int | float
References = Reference | Sequence[str] | Sequence[int] | Sequence[float]
LETTERS = "ABCD"
_INTEGER = re.compile(r"[0-9]+")
_NUMBER = re.compile(r"\d+\.\d+|\d+")
_WORD_SIGNS = "\n:\"'.,?!{}"
_CHOICE_SIGNS = "\n\"'.,?!{}"
_RUN_SIGNS = "\n.`'\":"
_DEBUG_SIGNS = ("\n", "`", "'", '"', "-", "*", "Option", "option")
_CHOICE_LEADS = ("answer is:", "answer:", "answer is", "option is")  # the first of the list that occurs decides
_DEBUG_LEADS = ("answer is:", "is:", "answer:", "correct option is:")
_DROPS_ITS_FIRST_NUMBER = "gpt4"


def first_integer(prediction: str, reference: References) -> float:
    """1 if the first run of ASCII digits is the reference, as text; a reference that is a number never is."""
    found = _INTEGER.search(prediction)
    return float((found[0] if found else "") == _only(reference))


def named_word(prediction: str, reference: References) -> float:
    """1 if the reference is one of the words; a list never is."""
    return float(reference in _blanked(prediction, _WORD_SIGNS).split())


def named_character(prediction: str, names: References) -> float:
    """1 if the first name is one of the words in upper case; one of two words, or in lower case, never is."""
    return float(_only(names) in [word.upper() for word in _blanked(prediction, _WORD_SIGNS).split()])


def english_f1(prediction: str, answers: References) -> float:
    """Token F1 of the answer that fits best; of a text every character is an answer."""
    words = english_tokens(prediction)
    return max((token_f1(words, english_tokens(answer)) for answer in _texts(answers)), default=0.0)


def chinese_f1(prediction: str, answers: References) -> float:
    """F1 over characters of the answer that fits best; nothing is segmented, unlike LongBench's."""
    found = normalize_chinese(prediction)
    return max((token_f1(found, normalize_chinese(answer)) for answer in _texts(answers)), default=0.0)


def choice(prediction: str, reference: References) -> float:
    """1 for the right choice of [text, letter].

    A first character of A to D decides, be it of a word ("Answer: B" is A). Then the whole prediction, then what
    follows the first lead-in of the list, one character skipped, then the first word that is a part of "ABCD".
    """
    text, letter = _pair(reference)
    prediction = prediction.strip()
    if prediction[:1] in (*LETTERS, ""):
        return float(prediction[:1] in (text, letter) and bool(prediction))
    if prediction in (text, letter):
        return 1.0
    prediction = _squeezed(_blanked(prediction, _CHOICE_SIGNS))
    if (said := _behind_lead(prediction, _CHOICE_LEADS)) is not None:
        return float(said.startswith((text, letter)) and bool(said))
    named = next((word for word in prediction.split() if word in LETTERS), None)
    return float(named is not None and named in (text, letter))


def function_choice(prediction: str, reference: References) -> float:
    """1 if the prediction begins with the letter of [function, letter] and "." or ":", or a lead-in is followed by it.

    A bare letter or name counts for nothing, and "is:" is found inside any word that ends so.
    """
    name, letter = _pair(reference)
    prediction = prediction.strip()
    if prediction[:2] in (f"{letter}.", f"{letter}:"):
        return 1.0
    said = _behind_lead(_squeezed(_blanked(prediction, _DEBUG_SIGNS)), _DEBUG_LEADS)
    return float(bool(said) and str(said).startswith((letter, name)))


def last_integer(prediction: str, reference: References) -> float:
    """1 if the last word is the number, as `int` reads it: "15." is, "15," and "**15**" are not."""
    words = _blanked(prediction, _RUN_SIGNS).split()
    try:
        return float(bool(words) and int(words[-1]) == _only(reference))
    except ValueError:
        return 0.0


def first_number(prediction: str, reference: References) -> float:
    """1 if the first number without its sign is the reference; "88.0" for 88, where the official scorer raises, is 0.

    Raises:
        InputTypeError: the reference is no number.
    """
    wanted, found = _only(reference), _NUMBER.search(prediction)
    if not isinstance(wanted, int | float):
        raise InputTypeError(f"expected a number as Math.Find's answer, got {wanted!r:.80}; pass record['answer']")
    try:
        return float(found is not None and type(wanted)(found[0]) == wanted)
    except ValueError:
        return 0.0


def right_prefix(prediction: str, values: References, model: str | None = None) -> float:
    """Share of the values that are right before the first that is not; gpt4's first number is dropped.

    Args:
        prediction: generated text.
        values: every intermediate one.
        model: who answered, by the official name.

    Raises:
        InputTypeError: the values are no list, or an empty one.
    """
    if isinstance(values, str | int | float) or not values:
        raise InputTypeError(f"expected the list of Math.Calc's values, got {values!r:.80}; pass record['answer']")
    found = [digits.lstrip("0") or "0" for digits in _INTEGER.findall(prediction)]
    found = found[1:] if model == _DROPS_ITS_FIRST_NUMBER else found
    num_right = 0
    for value, said in zip(values, found, strict=False):
        if str(value) != said:
            break
        num_right += 1
    return num_right / len(values)


def rouge_lsum(prediction: str, summaries: References) -> float:
    """ROUGE-Lsum F of `rouge_score`, without stemming, lines as sentences; of the summary that fits best.

    Raises:
        MissingPackageError: rouge_score is missing.
    """
    wanted = [summaries] if isinstance(summaries, str) else _texts(summaries)
    return float(_rouge_scorer().score_multi(list(wanted), prediction)["rougeLsum"].fmeasure)


@cache
def _rouge_scorer() -> Any:
    scorer = require("rouge_score.rouge_scorer", "ROUGE-Lsum").RougeScorer
    tokenizer = require("rouge_score.tokenizers", "ROUGE-Lsum").DefaultTokenizer(use_stemmer=False)
    return scorer(["rougeLsum"], tokenizer=tokenizer)  # which, left out, is logged, and so all of our log comes twice


@dataclass(frozen=True)
class Task:
    """One task.

    Args:
        title: its name in the paper.
        metric: of a prediction and the references, 0 to 1.
        count: official records.
    """

    title: str
    metric: Callable[..., float]
    count: int


TASKS: Mapping[str, Task] = {
    "passkey": Task("Retrieve.PassKey", first_integer, 590),
    "number_string": Task("Retrieve.Number", first_integer, 590),
    "kv_retrieval": Task("Retrieve.KV", named_word, 500),
    "longbook_sum_eng": Task("En.Sum", rouge_lsum, 103),
    "longbook_qa_eng": Task("En.QA", english_f1, 351),
    "longbook_choice_eng": Task("En.MC", choice, 229),
    "longdialogue_qa_eng": Task("En.Dia", named_character, 200),
    "longbook_qa_chn": Task("Zh.QA", chinese_f1, 189),
    "code_debug": Task("Code.Debug", function_choice, 394),
    "code_run": Task("Code.Run", last_integer, 400),
    "math_find": Task("Math.Find", first_number, 350),
    "math_calc": Task("Math.Calc", right_prefix, 50),
}


def score(task: str, prediction: str, references: References, model: str | None = None) -> float:
    """Score of one prediction, 0 to 1.

    Args:
        task: file name without its ending, for example "longbook_qa_eng".
        prediction: generated text, as it came.
        references: the official label: a text, a number or a list; [text, letter] of choices.
        model: official name of who answered, which Math.Calc asks for.

    Raises:
        InputError: there is no such task.
        InputTypeError: references of another kind.
    """
    if task not in TASKS:
        raise InputError(
            f"expected a task of InfiniteBench, {', '.join(TASKS)}, got {task!r}{did_you_mean(task, TASKS)}"
        )
    metric = TASKS[task].metric
    return right_prefix(prediction, references, model) if metric is right_prefix else metric(prediction, references)


def _only(reference: References) -> Reference:
    """The first of a list, or what is no list."""
    if isinstance(reference, str | int | float):
        return reference
    if not reference:
        raise InputTypeError("expected a reference, got an empty list; pass record['answer']")
    return reference[0]


def _texts(references: References) -> Sequence[str]:
    if isinstance(references, int | float) or not all(isinstance(item, str) for item in references):
        raise InputTypeError(f"expected a list of texts as references, got {references!r:.80}; pass record['answer']")
    return references  # type: ignore[return-value]


def _pair(reference: References) -> tuple[str, str]:
    """Text and letter of the right choice."""
    if isinstance(reference, str | int | float) or len(reference) != 2 or reference[1] not in tuple(LETTERS):
        raise InputTypeError(f"expected the right choice as [text, letter A to D], got {reference!r:.80}")
    return str(reference[0]), str(reference[1])


def _blanked(text: str, signs: Iterable[str]) -> str:
    for sign in signs:
        text = text.replace(sign, " ")
    return text


def _squeezed(text: str) -> str:
    """Runs of blanks, and of nothing else, become one."""
    return re.sub(" +", " ", text)


def _behind_lead(text: str, leads: Sequence[str]) -> str | None:
    """What stands one character behind the first lead-in that occurs; `None` without any."""
    lead = next((lead for lead in leads if lead in text), None)
    return None if lead is None else text[text.index(lead) + len(lead) + 1 :]
