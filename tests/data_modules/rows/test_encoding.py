"""Exactly the views asked, length policy; several questions about one document: one group for the policy, one short
group per turn for the reference."""

import itertools
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from support.padded_rows import padded_log_probs
from support.seams import compare_seams
from support.tiny_models import tiny_model
from support.word_pairs import FORMAT, LC, LR, SC, SFT, SR, VIEWS, pair
from support.word_tokenizer import word_tokenizer

from data_modules.messages import Message
from data_modules.records import PreferencePair, Turn
from data_modules.rows.dealing.dealer import collate
from data_modules.rows.encoding import PairEncoder
from data_modules.rows.truncation import LengthPolicy, OverlengthError, SplitLengths
from lit_longpo.batch import Group, Response, View, Views
from lit_longpo.engine import score
from lit_longpo.engine.attention import ordinary_attention
from lit_longpo.objectives import LongPO
from lit_longpo.policy import PromptFormat, PromptTemplate
from lit_longpo.policy.prompts.encoded_prompt import EncodedPrompt, Surroundings

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


@pytest.mark.parametrize("name", VIEWS)
@pytest.mark.parametrize("sharing", [True, False])
def test_only_the_views_asked_are_scored(name: str, sharing: bool) -> None:
    views = Views(VIEWS[name].policy, VIEWS[name].reference, num_rejected=2)
    encoder = PairEncoder(FORMAT, views, LengthPolicy(), prefix_sharing=sharing)
    batch = collate([encoder.encode(pair(n), SplitLengths()) for n in range(2)])

    def slots(wanted: tuple[View, ...]) -> set[tuple[Any, ...]]:
        return {
            (example, view.context, view.role, index)
            for example in range(2)
            for view in wanted
            for index in range(2 if view.role == "rejected" else 1)
        }

    assert {(s.example, s.context, s.role, s.index) for s in batch.policy.slots} == slots(views.policy)
    answer = {"chosen": 2, "rejected": 3}  # end-of-sequence included
    assert len(batch.policy.score_targets) == sum(answer[role] for _, _, role, _ in slots(views.policy))
    if not views.reference:
        assert batch.reference is None
    elif views.reference == views.policy:
        assert batch.same_row
    else:
        found = {(s.example, s.context, s.role, s.index) for s in batch.reference.slots}
        assert found == slots(views.reference)


def test_contexts_nobody_asks_for_are_not_tokenised() -> None:
    seen = []

    class Recording(PromptFormat):
        def encode_prompt(self, context: str, question: str | None, around: Surroundings) -> EncodedPrompt:
            seen.append(context)
            return super().encode_prompt(context, question, around)

        def encode_response(self, text: str) -> tuple[int, ...]:
            seen.append(text)
            return super().encode_response(text)

    encoder = PairEncoder(Recording(word_tokenizer(), PromptTemplate()), SFT, LengthPolicy())
    encoder.encode(pair(0), SplitLengths())
    assert pair(0).long_context in seen
    assert pair(0).short_context not in seen
    assert not set(pair(0).rejected) & set(seen)


def test_chosen_comes_first_whatever_the_order_of_views() -> None:
    encoded = PairEncoder(FORMAT, Views((SR, SC), num_rejected=2), LengthPolicy()).encode(pair(0), SplitLengths())
    roles = [(response.role, response.index) for response in encoded.policy[0].responses]
    assert roles == [("chosen", 0), ("rejected", 0), ("rejected", 1)]


@pytest.mark.parametrize("later", [(), (Turn("word50", "word51", "word52", ("word53", "word54")),)])
def test_every_response_holds_its_own_answers(later: tuple[Turn, ...]) -> None:
    """Of M rejected answers each is scored, none twice; in later turns too."""
    record = replace(pair(0), turns=later)
    encoder = PairEncoder(FORMAT, Views((LC, LR), num_rejected=2), LengthPolicy())
    [group] = encoder.encode(record, SplitLengths()).policy
    scored = [tuple(itertools.compress(response.token_ids, response.mask)) for response in group.responses]
    sides = zip(*((turn.chosen, *turn.rejected) for turn in record.all_turns), strict=True)
    assert scored == [sum(map(FORMAT.encode_response, side), ()) for side in sides]
    assert len(set(scored)) == 3


def test_too_few_rejected_is_named() -> None:
    encoder = PairEncoder(FORMAT, Views((LC, LR), num_rejected=3), LengthPolicy())
    with pytest.raises(
        ValueError, match=r"expected 3 rejected answers in .*'rejected' of record 'r0', got 2.*num_rejected"
    ):
        encoder.encode(pair(0), SplitLengths())


@given(
    st.integers(8, 60),
    st.integers(4, 60),
    st.sampled_from(["middle", "passages"]),
    st.sampled_from(list(VIEWS)),
)
@settings(max_examples=150, deadline=None)
def test_only_the_context_is_ever_cut(long: int, limit: int, truncation: Any, name: str) -> None:
    record, counts = pair(3, long), SplitLengths()
    encoder = PairEncoder(FORMAT, VIEWS[name], LengthPolicy(limit, "truncate", truncation))
    whole = PairEncoder(FORMAT, VIEWS[name], LengthPolicy()).encode(record, SplitLengths())
    try:
        cut = encoder.encode(record, counts)
    except OverlengthError:
        return
    lost = 0
    for before, after in zip(whole.policy, cut.policy, strict=True):
        assert after.responses == before.responses
        assert len(after.prompt_ids) + max(len(r.token_ids) for r in after.responses) <= limit
        assert after.prompt_ids[0] == before.prompt_ids[0]  # bos
        assert after.prompt_ids[-2:] == before.prompt_ids[-2:]  # question
        fact = FORMAT.encode(record.short_context)
        if truncation == "passages":
            assert any(after.prompt_ids[i : i + 3] == fact for i in range(len(after.prompt_ids)))
        lost += len(before.prompt_ids) - len(after.prompt_ids)
    if name != "longpo":  # there the reference has a context of its own
        assert counts.tokens_lost == lost
    assert counts.cut == (counts.tokens_lost > 0)


def test_turns_follow_a_conversation() -> None:
    """System message and messages around the context stand before every turn, in short contexts, too."""
    said = {"system": "word40", "history": (Message("assistant", "word41"),), "followup": (Message("user", "word42"),)}
    record, views = replace(PAIR, **said), LongPO().views
    encoder = PairEncoder(CHATTY, views, LengthPolicy())
    result = encoder.encode(record, SplitLengths())
    frame = (
        "word70 word72 word40 word70 word71 word41 word70 word72 {} Question : {} word70 word72 word42 word70 word71"
    )
    contexts = [(PAIR.long_context, PAIR.question), *((turn.short_context, turn.question) for turn in PAIR.all_turns)]
    prompts = [CHATTY.decode(group.prompt_ids) for group in (*result.policy, *result.reference)]
    assert prompts == [frame.format(*texts) for texts in contexts]
    assert compare_seams(CHATTY, [record], views).differing == 0


def test_a_record_that_its_template_refuses_is_named() -> None:
    with pytest.raises(ValueError, match=r"^record 'doc': expected a chat template for a record with a system message"):
        PairEncoder(PLAIN, SFT, LengthPolicy()).encode(replace(PAIR, system="word1"), SplitLengths())
    cutting = word_tokenizer(chat_template=CHAT.replace("m['content']", "m['content'].split('word9')[-1]"))
    encoder = PairEncoder(PromptFormat(cutting, PromptTemplate()), SFT, LengthPolicy())
    with pytest.raises(
        ValueError, match=r"^record 'doc': expected the chat template to write all of the answer 'word9"
    ):
        encoder.encode(replace(PAIR, chosen="word9 word1", turns=()), SplitLengths())


def test_error_and_skip() -> None:
    with pytest.raises(OverlengthError, match=r"at most 10 tokens .* record 'r0' \(long context\), got 25"):
        PairEncoder(FORMAT, SFT, LengthPolicy(10, "error")).encode(pair(0), SplitLengths())
    long_system = replace(PAIR, system="word40 " * 40)
    with pytest.raises(OverlengthError, match=r"around the context \(question, .*move a document out of the"):
        PairEncoder(CHATTY, SFT, LengthPolicy(30, "truncate")).encode(long_system, SplitLengths())
    counts = SplitLengths()
    assert PairEncoder(FORMAT, SFT, LengthPolicy(10, "skip")).encode(pair(0), counts) is None
    assert counts == SplitLengths(examples=1, skipped=1)
