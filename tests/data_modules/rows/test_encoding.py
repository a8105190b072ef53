"""Several questions about one document: one group for the policy, one short group per turn for the reference."""

import pytest
import torch
from support.padded_rows import padded_log_probs
from support.tiny_models import tiny_model
from support.word_tokenizer import word_tokenizer

from data_modules.base import collate
from data_modules.records import PreferencePair, Turn, parse_pair
from data_modules.rows.encoding import PairEncoder
from data_modules.rows.truncation import LengthPolicy, SplitLengths
from data_modules.strict_json import RecordError
from data_modules.synthetic import SyntheticDataModule
from lit_longpo.batch import Group, Response
from lit_longpo.engine import score
from lit_longpo.engine.attention import ordinary_attention
from lit_longpo.objectives import LongPO
from lit_longpo.policy import PromptFormat, PromptTemplate

CHAT = (
    "{% for m in messages %}word70 {{ m['role'] == 'assistant' and 'word71' or 'word72' }} {{ m['content'] }} <eos> "
    "{% endfor %}{% if add_generation_prompt %}word70 word71 {% endif %}"
)
PLAIN = PromptFormat(word_tokenizer(), PromptTemplate("{context} Question: {question} Answer:"))
CHATTY = PromptFormat(word_tokenizer(chat_template=CHAT), PromptTemplate("{context} Question: {question}"))
PAIR = PreferencePair(
    "doc",
    "word1 word2",
    "word10 word11",
    "word10 word11 word12 word13 word14",
    "word20",
    ("word30 word31",),
    turns=(
        Turn("word3", "word12 word13", "word21 word22", ("word32",)),
        Turn("word4 word5", "word14", "word23", ("word33 word34 word35",)),
    ),
)
MODEL = tiny_model("Llama")


def encoded(form, **options):
    views = LongPO(**options).views
    return PairEncoder(form, views, LengthPolicy()).encode(PAIR, SplitLengths())


def by_hand(form, side):
    """(prompt, answer) token ids of every turn with the earlier answers of the same side in the prompt."""
    first = Turn(PAIR.question, PAIR.short_context, PAIR.chosen, PAIR.rejected)
    prompt = form.encode_prompt(PAIR.long_context, PAIR.question).ids
    for number, turn in enumerate((first, *PAIR.turns)):
        if number:
            prompt += form.encode_turn(turn.question).ids
        answer = form.encode_response(turn.chosen if side == "chosen" else turn.rejected[0])
        yield prompt, answer
        prompt += answer


def alone(prompt, answer):
    group = Group("x", "long", prompt, (Response("chosen", answer, (True,) * len(answer)),))
    return padded_log_probs(MODEL, [group])[0].sum()


@pytest.mark.parametrize("form", [PLAIN, CHATTY], ids=["plain", "chat"])
def test_log_probs_of_the_turns_are_added(form):
    """Policy: every turn after the document and the earlier turns. Reference: every turn after its own chunk."""
    batch = collate([encoded(form)])
    policy, reference = score(MODEL, batch.policy), score(MODEL, batch.reference)
    turns = (Turn(PAIR.question, PAIR.short_context, PAIR.chosen, PAIR.rejected), *PAIR.turns)
    for side in ("chosen", "rejected"):
        expected = sum(alone(*row) for row in by_hand(form, side))
        torch.testing.assert_close(policy.log_probs("long", side).flatten()[0], expected, rtol=1e-5, atol=1e-6)
        short = [(turn.short_context, turn.question, getattr(turn, side)) for turn in turns]
        rows = [
            (form.encode_prompt(context, question).ids, form.encode_response(text if side == "chosen" else text[0]))
            for context, question, text in short
        ]
        expected = sum(alone(*row) for row in rows)
        torch.testing.assert_close(reference.log_probs("short", side).flatten()[0], expected, rtol=1e-5, atol=1e-6)


def sequence_nll(ids, counted):
    with ordinary_attention(MODEL):
        logits = MODEL(input_ids=torch.tensor([ids]), use_cache=False).logits[0]
    nll = -logits.log_softmax(-1)[:-1].gather(1, torch.tensor(ids[1:]).unsqueeze(1)).squeeze(1)
    return nll[torch.tensor(counted[1:])].mean()


def test_the_sequence_is_document_questions_and_chosen_answers():
    *_, (prompt, answer) = by_hand(CHATTY, "chosen")
    actual = score(MODEL, collate([encoded(CHATTY)]).policy).sequence_nll("long")
    expected = sequence_nll(prompt + answer, [True] * len(prompt + answer))
    torch.testing.assert_close(actual[0], expected, rtol=1e-6, atol=1e-6)


def test_the_templates_own_tokens_can_be_left_out():
    *_, (prompt, answer) = by_hand(CHATTY, "chosen")
    ids, texts = prompt + answer, CHATTY.tokenizer.convert_ids_to_tokens(prompt + answer)
    counted = [text not in ("word70", "word71", "word72") for text in texts]
    assert texts.count("<eos>") == 6  # after every question and every answer
    for number, text in enumerate(texts):
        if text == "<eos>" and texts[number - 1] in ("word2", "word3", "word5"):
            counted[number] = False
    actual = score(MODEL, collate([encoded(CHATTY, nll_on_format=False)]).policy).sequence_nll("long")
    torch.testing.assert_close(actual[0], sequence_nll(ids, counted), rtol=1e-6, atol=1e-6)


def test_synthetic_turns_ask_about_one_document():
    data = SyntheticDataModule(num_train=5, short_words=24, long_words=(100, 120), num_turns=3, num_rejected=2)
    for pair in data.pairs("train"):
        assert len(pair.turns) == 2
        assert len(pair.supporting) == 3
        questions = [pair.question, *[turn.question for turn in pair.turns]]
        for question, answer in zip(questions, [pair.chosen, *[t.chosen for t in pair.turns]], strict=True):
            assert f"{question} {answer} ." in pair.long_context
        assert all(len(turn.rejected) == 2 and turn.chosen not in turn.rejected for turn in pair.turns)


@pytest.mark.parametrize(
    ("turn", "message"),
    [
        ("no", r"turns\[0\].*an object"),
        ({"question": "q", "short_context": "c", "chosen": "a"}, r"turns\[0\].*rejected.*required"),
        ({"question": "q", "short_context": "c", "chosen": "a", "rejected": ["a"]}, r"turns\[0\]\.rejected"),
        ({"question": "q", "short_context": "c", "chosen": "a", "rejected": ["b", "d"]}, "1 answers as in the first"),
        ({"question": "q", "short_context": "c", "chosen": "a", "rejectd": ["b"]}, "did you mean 'rejected'"),
    ],
)
def test_malformed_turns_are_named(turn, message):
    record = {"id": "x", "question": "q", "short_context": "c", "long_context": "c d", "chosen": "a", "rejected": ["b"]}
    with pytest.raises(RecordError, match=message):
        parse_pair({**record, "turns": [turn]}, "pairs.jsonl:1")
