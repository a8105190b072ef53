"""Answers and log-probabilities beside plain transformers, of models, adapters and their base."""

import peft
import pytest
import torch
from support.chat_formats import FORMATS, chat_tokenizer
from support.tiny_models import tiny_model
from support.word_tokenizer import WORDS, word_tokenizer
from transformers import AutoModelForCausalLM

from evaluation.asking import sides
from evaluation.asking.questions import DocumentQuestions, PromptRules
from evaluation.asking.sides import Prepared, Reply, Side
from evaluation.running.batching import Batching
from lit_longpo.policy import PolicyConfig, PromptTemplate

CPU = torch.device("cpu")
ASKED = DocumentQuestions(
    " ".join(WORDS * 4),
    ("word1 word2 ?", "word3 ?"),
    (("word5 word6", "word7"), ("word8 word9 word10",)),
)
RULES = PromptRules(max_new_tokens=6)


@pytest.fixture(scope="module")
def adapters(policy_folder, tmp_path_factory):
    folder = tmp_path_factory.mktemp("adapters")
    base = tiny_model("Llama")
    base.name_or_path = str(policy_folder)
    wrapped = peft.get_peft_model(base, peft.LoraConfig(target_modules=["q_proj"], init_lora_weights=False))
    wrapped.save_pretrained(folder)
    word_tokenizer().save_pretrained(folder)
    return folder


def plain(model, prompt, text, tokenizer, end):
    """Summed log-probability of an answer and its end, from the model's own logits."""
    answer = [*tokenizer(text, add_special_tokens=False)["input_ids"], end]
    ids = torch.tensor([[*prompt.ids, *answer]])
    with torch.no_grad():
        log_probs = model(ids).logits.log_softmax(-1)[0, len(prompt.ids) - 1 : -1]
    return float(log_probs.gather(1, torch.tensor(answer)[:, None]).sum()), len(answer)


def greedy(model, prompt, ends):
    """One token after the other, without a cache."""
    ids = list(prompt.ids)
    while len(ids) < len(prompt.ids) + prompt.max_new_tokens:
        with torch.no_grad():
            ids.append(int(model(torch.tensor([ids])).logits[0, -1].argmax()))
        if ids[-1] in ends:
            return ids[len(prompt.ids) : -1], True
    return ids[len(prompt.ids) :], False


def check(side, model, tokenizer, end, asked=ASKED, ends=(2,)):
    prepared = Prepared.of(side, asked, RULES)
    replies = prepared.replies(asked, CPU, Batching())
    for reply, prompt, texts in zip(replies, prepared.prompts, asked.answers, strict=True):
        expected = [plain(model, prompt, text, tokenizer, end) for text in texts]
        torch.testing.assert_close(reply.log_probs, tuple(sum_ for sum_, _ in expected), rtol=1e-4, atol=1e-3)
        assert reply.num_scored == tuple(count for _, count in expected)
        ids, finished = greedy(model, prompt, ends)
        assert (reply.num_new, reply.finished) == (len(ids), finished)
        assert reply.text == tokenizer.decode(ids, skip_special_tokens=True).strip()
    return replies


def test_adapters_are_on_and_their_base_is_without_them(policy_folder, adapters):
    tokenizer, base = word_tokenizer(), AutoModelForCausalLM.from_pretrained(policy_folder).eval()
    trained = peft.AutoPeftModelForCausalLM.from_pretrained(adapters).eval()
    on = check(Side("trained", "x", PolicyConfig(str(adapters))), trained, tokenizer, 2)
    policy = PolicyConfig(str(policy_folder))
    off = check(Side("base", "x", policy, beneath=str(adapters)), base, tokenizer, 2)
    assert off == check(Side("base", "x", policy), base, tokenizer, 2)
    assert abs(on[0].log_probs[0] - off[0].log_probs[0]) > 0.1


@pytest.mark.parametrize("user", ["{context} {question}", "{question} {context}"])
def test_the_document_goes_through_the_model_once_if_prompts_begin_with_it(policy_folder, user, monkeypatch):
    rows = []
    score = sides.score
    monkeypatch.setattr(sides, "score", lambda model, row: rows.append(row.num_tokens) or score(model, row))
    side = Side("model", "x", PolicyConfig(str(policy_folder), template=PromptTemplate(user)))
    check(side, AutoModelForCausalLM.from_pretrained(policy_folder).eval(), word_tokenizer(), 2)
    assert len(rows) == (1 if user.startswith("{context}") else 2)
    assert len(WORDS * 4) < rows[0] < len(WORDS * 8)


def test_a_chat_model_is_asked_in_its_template_and_stops_at_its_end_of_turn(tmp_path):
    """Reported of others: prompts without the template, and answers that run on, as only the tokenizer's end stops."""
    tokenizer = chat_tokenizer("chatml")
    end = tokenizer.convert_tokens_to_ids(FORMATS["chatml"].end_of_turn)
    assert end != tokenizer.eos_token_id
    folder, side = str(tmp_path), Side("model", "x", PolicyConfig(str(tmp_path)))
    tiny_model("Llama", vocab_size=len(tokenizer)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    prepared = Prepared.of(side, ASKED, RULES)
    model = AutoModelForCausalLM.from_pretrained(folder).eval()
    with torch.no_grad():  # it ends its turn at once
        states = model.model(torch.tensor([prepared.prompts[0].ids])).last_hidden_state
        model.lm_head.weight[end] = states[0, -1]
    model.save_pretrained(folder)
    said = [{"role": "user", "content": f"{ASKED.document}\n\n{ASKED.questions[0]}"}]
    expected = tokenizer.apply_chat_template(said, add_generation_prompt=True, return_dict=True)["input_ids"]
    assert list(prepared.prompts[0].ids) == expected
    replies = check(side, model, tokenizer, end, ends=(end, tokenizer.eos_token_id))
    assert (replies[0].num_new, replies[0].finished) == (0, True)


def test_a_given_answer_that_does_not_fit_the_window_is_refused(policy_folder):
    asked = DocumentQuestions("word1", ("word2",), ((" ".join(WORDS * 7),),))
    with pytest.raises(ValueError, match=r"fit 512 positions behind a prompt of 3, got one of 561 tokens"):
        Prepared.of(Side("model", "x", PolicyConfig(str(policy_folder))), asked, RULES)


def test_a_given_answer_of_unknown_words_is_refused(policy_folder):
    """Its log-probability would be that of the unknown token, whatever the words."""
    asked = DocumentQuestions("word1", ("word2",), (("word3", "Paris"),))
    with pytest.raises(ValueError, match=r"tokenizer of x knows, got 'Paris', whose .*correct --answers"):
        Prepared.of(Side("model", "x", PolicyConfig(str(policy_folder))), asked, RULES)


def test_a_margin_is_over_the_likeliest_other():
    assert Reply("x", 1, True, (-2.0, -5.0, -3.5), (1, 1, 1)).margin == 1.5
    assert Reply("x", 1, True, (-2.0,), (1,)).margin is None
