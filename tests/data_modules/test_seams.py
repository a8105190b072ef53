from support.word_tokenizer import word_tokenizer
from tokenizers import Tokenizer, models
from transformers import PreTrainedTokenizerFast

from data_modules.records import PreferencePair
from data_modules.seams import compare_seams
from lit_longpo.policy import PromptFormat, PromptTemplate

CHAT = (
    "{% for m in messages %}word70 {{ m['content'] }}<eos>{% endfor %}{% if add_generation_prompt %}word70 {% endif %}"
)


def pair(number, answer="word5"):
    return PreferencePair(f"p{number}", "word1 ?", "word2", "word2 word3", answer, ("word6",))


def test_a_word_level_tokenizer_has_no_seams():
    for template in (None, CHAT):
        form = PromptFormat(word_tokenizer(chat_template=template), PromptTemplate())
        report = compare_seams(form, [pair(n) for n in range(3)], "long")
        assert (report.checked, report.differing, report.first) == (3, 0, None)


def merging_tokenizer():
    """Byte pairs in which "?a" is one token, so a question and its answer merge."""
    letters = [*"abc ?", "\n"]
    vocab = {token: number for number, token in enumerate(["<eos>", *letters, "?a"])}
    tokenizer = Tokenizer(models.BPE(vocab, [("?", "a")], unk_token="<eos>"))
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<eos>")


def test_merges_across_the_seam_are_counted():
    form = PromptFormat(merging_tokenizer(), PromptTemplate("{context} {question}"))
    pairs = [
        PreferencePair("good", "b?", "c", "c c", "b", ("c",)),
        PreferencePair("merged", "b?", "c", "c c", "a", ("c",)),
    ]
    report = compare_seams(form, pairs, "short")
    assert (report.checked, report.differing, report.first) == (2, 1, "merged")
