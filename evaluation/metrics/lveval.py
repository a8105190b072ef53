"""LV-Eval (Yuan et al., arXiv 2402.05136): keyword-gated F1, as its code computes it.

Read at infinigence/LVEval 63e7ae9. Two things differ from the paper's words and are kept as the code has
them: only the first answer counts, and the words without meaning are left out of the gate and of
dureader's ROUGE-L but not of the F1.
"""

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence

from evaluation.metrics.extras import chinese_words
from evaluation.metrics.rouge_l import rouge_l
from evaluation.metrics.text import chinese_tokens, english_tokens, normalize_chinese, token_f1
from lit_longpo.errors import InputError, did_you_mean

LEVELS = ("16k", "32k", "64k", "128k", "256k")
_GATE, _GATE_CHINESE = 0.2, 0.4  # a recall of exactly this much passes
_LEVEL = re.compile(r"_\d{1,3}k$")
# Words that carry no meaning. They define the scores and cannot be derived: data from infinigence/LVEval at 63e7ae9
# (MIT), sorted.
_ENGLISH = (
    "about and are as at be because being but by does for from had has have he her his in is it of on or "
    "she that their they this to was were what when which who with"
)
_CHINESE = (
    "c \u00d7 ‰ 一定 一种 丁 万元 上 不 与 个 中 为 主要 也 了 于 亩 亿元 从 以 以及 会 但 位于 "
    "你 使 使用 元 其他 具有 到 包括 受 变得 可以 号 后 和 因素 在 地 基于 对 将 小 已经 带 年 "
    "并 度 形 或 或者 所 才 指 方面 无 日 时 是 月 有 条 来 根据 法 然后 片 用 用于 由 的 等 "
    "类 给 而 能 至 要 让 进行 通过 首先"
)
ENGLISH_STOP_WORDS, CHINESE_STOP_WORDS = (frozenset(words.split()) for words in (_ENGLISH, _CHINESE))


def gate_recall(prediction: Sequence[str], keywords: Sequence[str], stop_words: frozenset[str]) -> float:
    """Share of the keywords' tokens found in the prediction.

    Stop words are not counted when found, yet stay in the number that is divided by.
    """
    shared = Counter(prediction) & Counter(keywords)
    return sum(count for word, count in shared.items() if word not in stop_words) / len(keywords)


def gated_f1(prediction: str, answer: str, keywords: str | None) -> float:
    """Token F1, or 0 below a keyword recall of 0.2.

    No gate without keywords, nor where they normalise to nothing ("the", "!!"): the official code
    divides by zero there.
    """
    words, wanted = english_tokens(prediction), english_tokens(keywords or "")
    if wanted and gate_recall(words, wanted, ENGLISH_STOP_WORDS) < _GATE:
        return 0.0
    return token_f1(words, english_tokens(answer))


def gated_f1_chinese(prediction: str, answer: str, keywords: str | None) -> float:
    """Token F1 of segmented text, or 0 below a keyword recall of 0.4.

    Without keywords the answer stands in for them, so there is always a gate, unless its words
    normalise to nothing (the official code divides by zero there).
    """
    words, wanted = chinese_tokens(prediction), chinese_tokens(keywords or answer)
    if wanted and gate_recall(words, wanted, CHINESE_STOP_WORDS) < _GATE_CHINESE:
        return 0.0
    return token_f1(words, chinese_tokens(answer))


def plain_f1(prediction: str, answer: str, keywords: str | None) -> float:
    """Token F1; keywords have no say."""
    return token_f1(english_tokens(prediction), english_tokens(answer))


def plain_f1_chinese(prediction: str, answer: str, keywords: str | None) -> float:
    """Token F1 of segmented text; keywords have no say."""
    return token_f1(chinese_tokens(prediction), chinese_tokens(answer))


def rouge_without_stop_words(prediction: str, answer: str, keywords: str | None) -> float:
    """ROUGE-L after stop words are dropped; keywords have no say."""
    return rouge_l(_content_words(prediction), _content_words(answer), official_depth=1)


def _content_words(text: str) -> str:
    """Segmented twice, the second time with spaces between the words, as the official code does."""
    words = map(normalize_chinese, chinese_words(" ".join(chinese_words(text))))
    return " ".join(word for word in words if word not in CHINESE_STOP_WORDS)


METRICS: Mapping[str, Callable[[str, str, str | None], float]] = {
    "hotpotwikiqa_mixup": gated_f1,
    "loogle_SD_mixup": gated_f1,
    "loogle_CR_mixup": gated_f1,
    "loogle_MIR_mixup": gated_f1,
    "multifieldqa_en_mixup": gated_f1,
    "multifieldqa_zh_mixup": gated_f1_chinese,
    "factrecall_en": plain_f1,
    "factrecall_zh": plain_f1_chinese,
    "cmrc_mixup": gated_f1_chinese,
    "lic_mixup": gated_f1_chinese,
    "dureader_mixup": rouge_without_stop_words,
}


def dataset_name(dataset: str) -> str:
    """`<name>` of `<name>` or `<name>_<level>`.

    Raises:
        InputError: there is no such data set.
    """
    name = _LEVEL.sub("", dataset)
    if name not in METRICS:
        raise InputError(
            f"expected a data set of LV-Eval, {', '.join(METRICS)}, got {dataset!r}{did_you_mean(name, METRICS)}"
        )
    return name


def score(
    dataset: str,
    prediction: str,
    answers: Sequence[str],
    answer_keywords: str | None = None,
) -> float:
    """Score against the first answer, 0 to 1; further answers are ignored, as in the official loop."""
    metric = METRICS[dataset_name(dataset)]
    return metric(prediction, answers[0], answer_keywords) if answers else 0.0
