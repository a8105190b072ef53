import json
from dataclasses import replace

import pytest
from support.byte_tokenizer import byte_tokenizer
from support.reports import table_of
from support.tiny_models import tiny_model

from evaluation import QA
from evaluation.benchmarks.questions import Question
from evaluation.reports.report import BenchmarkReport
from evaluation.reports.tables import sections
from evaluation.running.responses import Responses
from evaluation.running.results import make_report
from evaluation.running.runner import Runner
from evaluation.running.settings import RunSettings
from lit_longpo.policy import PromptFormat, PromptTemplate
from lit_longpo.policy.prompts.encoded_prompt import Surroundings

CHAT = (
    "{{ bos_token }}{% for message in messages %}[{{ message['role'] }}]{{ message['content'] }}[/end]{% endfor %}"
    "{% if add_generation_prompt %}[assistant]{% endif %}"
)
FORMAT = PromptFormat(byte_tokenizer(chat_template=CHAT), PromptTemplate("{context}\n\n{question}", system="Be brief."))


class Listed:
    """Questions in a list."""

    def __init__(self, *questions):
        self.listed = questions

    def questions(self):
        return self.listed


def asked(number, context="", answers=("Ann",), **more):
    return Question(f"q{number}", f"Who is number {number}?", answers, context or f"{number} is Ann.", **more)


def test_a_prompt_is_the_policys_chat_template_around_context_and_question():
    bench = QA(questions=Listed(asked(1)), question_template="In one word: {question}", max_new_tokens=9)
    prompt = bench.prompt(next(bench.examples("qa")), FORMAT, 1000)
    said = [("system", "Be brief."), ("user", "1 is Ann.\n\nIn one word: Who is number 1?")]
    messages = [{"role": role, "content": text} for role, text in said]
    expected = FORMAT.tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=False)
    assert list(prompt.ids) == list(expected)
    assert (prompt.max_new_tokens, prompt.num_lost, prompt.uses_chat) == (9, 0, True)
    assert prompt.num_tokens == len(said[1][1])  # bytes: the chat template's own tokens do not count
    with pytest.raises(ValueError, match="fit 80 positions"):
        bench.prompt(next(bench.examples("qa")), FORMAT, 1000, window=80)


def test_whole_conversations_are_asked_as_they_are():
    said = Surroundings(
        "One word.", (("user", "Hi."), ("assistant", "Hello.")), (("assistant", "Yes?"), ("user", "Who?"))
    )
    whole = Question("w", "", ("Ann",), "x" * 600 + " Ann is it. Who?", is_gold=False)
    bench = QA(questions=Listed(whole, replace(whole, id="c", around=said)))
    messages = [{"role": "user", "content": whole.context}]
    around = [("system", "One word."), *said.history, ("user", whole.context), *said.followup]
    expected = [
        [{"role": "system", "content": "Be brief."}, *messages],
        [{"role": role, "content": text} for role, text in around],
    ]
    for example, conversation in zip(bench.examples("qa"), expected, strict=True):
        ids = FORMAT.tokenizer.apply_chat_template(conversation, add_generation_prompt=True, return_dict=False)
        assert list(bench.prompt(example, FORMAT, 2000).ids) == list(ids)
        cut = FORMAT.tokenizer.decode(bench.prompt(example, FORMAT, 300).ids)
        assert len(cut) < 500
        assert "Ann is it. Who?" in cut
    assert [example.question for example in bench.examples("qa")] == [f"... {whole.context[-500:]}", "Who?"]
    worded = replace(bench, question_template="Q: {question}")
    with pytest.raises(ValueError, match="a question apart from its context in record 'w' for `question_template`"):
        worded.prompt(next(worded.examples("qa")), FORMAT, 2000)


RULES = "Answer with a few words only, and say nothing that the text does not. " * 3


@pytest.mark.parametrize("rules", ["", RULES])
def test_whole_messages_share_a_context_if_they_hold_the_same_text(rules):
    """As data are held out: an instruction that all hold is no document."""
    texts = ["\n\n".join(f"Paragraph {n} of text {name}: Ines counted crates." for n in range(5)) for name in "abcd"]
    said = [
        f"{rules}\n\n{texts[0]}\n \nWho?",
        f"{texts[0]}\n\nWhere?\n{rules}",
        f"{rules}\n{texts[1]}",
        f"{rules}\nWho?",
    ]
    whole = [Question(f"w{n}", "", ("x",), message) for n, message in enumerate(said)]
    heard = [replace(whole[3], id=f"h{n}", around=Surroundings(texts[2 + n // 2])) for n in range(4)]
    bench = QA(questions=Listed(*whole, *heard))
    keys = [example.context_key for example in bench.examples("qa")]
    assert [keys.index(key) for key in keys] == [0, 0, 2, 3, 4, 4, 6, 6]
    assert len(replace(bench, first=1).asked) == 2


def test_only_the_middle_of_the_context_is_cut():
    bench = QA(questions=Listed(asked(1, context="a" * 50 + "-" * 400 + "z" * 50)))
    example = next(bench.examples("qa"))
    prompt = bench.prompt(example, FORMAT, 118)
    text = FORMAT.tokenizer.decode(prompt.ids)
    assert "a" * 50 + "z" * 50 + "\n\nWho is number 1?" in text
    assert "-" not in text
    assert (prompt.num_tokens, prompt.num_lost) == (518, 400)
    assert [bench.prompt(example, FORMAT, length).num_lost for length in (518, 517)] == [0, 1]
    with pytest.raises(ValueError, match="room for the question q1 and some of its context"):
        bench.prompt(example, FORMAT, 19)


def test_the_table_has_three_scores_and_every_length():
    bench = QA(questions=Listed(*(asked(number, answers=("Ann Lee", "Ann")) for number in range(4))))
    rows = []
    responses = ["Ann", "It is Ann Lee!", "the ann lee", "Bob"]
    for example, text, size in zip(bench.examples("qa"), responses, (100, 129, 256, 257), strict=True):
        row = example.answered(text, bench.score(example, text))
        rows.append(bench.placed(replace(row, num_tokens=size)))
    assert bench.table(rows) == {
        "sub_em": 75.0, "f1": round(100 * (1 + 2 * 0.5 / 1.5 + 1 + 0) / 4, 2), "em": 50.0,
        "128": 100.0, "256": 100.0, "512": 0.0,
    }  # fmt: skip
    stated = replace(bench, lengths=(100, 200), score_by="em")
    assert [stated.placed(row).length for row in rows] == [100, 200, 256, 512]
    assert stated.score(next(stated.examples("qa")), "It is Ann") == 0.0
    assert table_of(stated, list(stated.examples("qa")), responses)["em"] == 50.0


def test_depths_are_rounded_to_parts_of_the_context():
    depths = [0.0, 0.19, 0.2, 0.99, 1.0, None]
    bench = QA(questions=Listed(*(asked(number, depth=depth) for number, depth in enumerate(depths))))
    assert [example.depth for example in bench.examples("qa")] == [0.1, 0.1, 0.3, 0.9, 0.9, None]


def test_the_first_questions_come_with_all_of_their_context():
    """Questions of one context lie apart in the file and are asked side by side."""
    listed = [asked(number, context=f"Ann {number % 3}.") for number in range(9)]
    first = QA(questions=Listed(*listed), first=4)
    assert [item.id for item in first.asked] == ["q0", "q3", "q6", "q1", "q4", "q7"]
    assert [item.id for item in replace(first, first=3).asked] == ["q0", "q3", "q6"]
    assert len(replace(first, first=None).asked) == 9


def test_a_limit_chooses_whole_contexts_and_a_larger_one_adds_to_it():
    listed = [asked(number, context=f"Ann {number % 4}.") for number in range(20)]
    model = tiny_model("Llama", vocab_size=300)
    chosen = []
    for limit in (3, 5, 12, 15):
        bench = QA(questions=Listed(*listed), max_new_tokens=1)
        report = Runner(bench, model, FORMAT, RunSettings(limit=limit, max_length=200), Responses()).run()
        chosen.append({item.id for item in report.predictions})
        assert report.deviations[-1] == f"a subset of the examples: qa {len(chosen[-1])} of 20"
    assert [len(ids) for ids in chosen] == [3, 5, 10, 15]  # of a context with more questions than the limit, a part
    assert chosen[0] < chosen[1] < chosen[2] < chosen[3]
    assert {int(name[1:]) % 4 for name in chosen[1]} == {int(name[1:]) % 4 for name in sorted(chosen[0])[:1]}


def test_a_report_bootstraps_over_contexts_and_says_what_its_score_is():
    listed = [asked(number, context=f"Ann {number % 3}.") for number in range(9)] + [asked(9, answers=())]
    bench = QA(questions=Listed(*listed), max_new_tokens=2)
    model = tiny_model("Llama", vocab_size=300)
    report = Runner(bench, model, FORMAT, RunSettings(max_length=200), Responses()).run()
    assert {len({item.context for item in report.predictions}), len(report.predictions)} == {3, 9}
    assert {item.length for item in report.predictions} == {128}
    assert "over 3 contexts" in sections(report)[0].note
    assert "1 of 10 questions have no answers and were not asked" in report.deviations
    assert report.notes[0].endswith("sub_em")
    assert report.rules is QA
    assert isinstance(report, BenchmarkReport)


def test_a_line_break_that_a_shell_made_two_characters_is_refused():
    with pytest.raises(ValueError, match=r"expected line breaks in `question_template`, got a backslash and an n"):
        QA(questions=Listed(asked(1)), question_template="Briefly.\\n{question}")
    with pytest.raises(ValueError, match=r"expected line breaks in `policy.template.system`"):
        PromptTemplate(system="Be brief.\\nBe kind.")
    with pytest.raises(ValueError, match=r"expected line breaks in `policy.template.user`"):
        PromptTemplate("{context}\\n\\n{question}")


def test_a_template_quoted_twice_is_refused():
    """The command line keeps typed texts as they are: what is quoted again would be in every prompt."""
    for question_template in ("'Q: {question}'", '"Answer briefly. {question}"'):
        with pytest.raises(ValueError, match=r"expected `question_template` without quotes around it, .*once"):
            QA(questions=Listed(asked(1)), question_template=question_template)
    with pytest.raises(ValueError, match=r"expected `policy.template.user` without quotes"):
        PromptTemplate('"{context}\n\nQuestion: {question}"')
    for user in ('"{context}" answers "{question}"', "{context}\n'{question}'"):
        assert PromptTemplate(user).user == user
    assert QA(questions=Listed(asked(1)), question_template='"{question}"').question_template == '"{question}"'


def test_answers_in_scripts_that_join_words_are_told():
    """An answer of three Thai words beside one of them more shares no token with it; Chinese and Japanese do."""
    thai, chinese = (
        asked(1, answers=("\u0e01\u0e23\u0e38\u0e07\u0e40\u0e17\u0e1e",)),
        asked(2, answers=("\u5317\u4eac",)),
    )
    note = next(note for note in QA(questions=Listed(thai, chinese, asked(3))).notes if "Thai" in note)
    assert note.startswith("1 of 3 questions have answers in Thai, Lao, Burmese or Khmer")
    assert len(QA(questions=Listed(chinese, asked(3))).notes) == 2


def test_answers_of_one_letter_are_told():
    """Choices (UltraRAG#509): sub-EM finds B in Bob."""
    notes = QA(
        questions=Listed(asked(1, answers=("B",)), asked(2, answers=("7",)), asked(4, answers=("no",)), asked(3))
    ).notes
    assert [note for note in notes if note.startswith("3 of 4 questions have answers of one or two letters")]
    assert len(QA(questions=Listed(asked(3))).notes) == 2


@pytest.mark.parametrize(
    ("answer", "inside"), [("U.S.", "famous"), ("the US", "famous"), ("\u0663", "1300"), ("5 %", "15"), ("$5", "15")]
)
def test_an_answer_of_which_one_or_two_letters_are_left_is_told(answer, inside):
    """Points, articles and signs were counted as letters: of these only "$5" was told."""
    bench = QA(questions=Listed(asked(1, answers=(answer,)), asked(3)))
    assert bench.score(replace(next(bench.examples("qa")), answers=(answer,)), inside) == 1.0
    assert any(note.startswith("1 of 2 questions have answers of one or two letters") for note in bench.notes)


def test_preferred_answers_are_scored_by_f1_and_the_report_says_so():
    bench = QA(questions=Listed(asked(1), asked(2, is_gold=False)))
    assert bench.metric == "f1"
    assert bench.deviations == ("1 of 2 answers to compare with are preferred ones, not gold",)
    assert replace(bench, score_by="em").metric == "em"
    assert make_report(bench, {}).settings["score of each answer"] == "f1"


@pytest.mark.parametrize(
    "wrong",
    [
        {"questions": None},
        {"path": "q.jsonl"},
        {"path": "q.jsonl", "questions": None, "first": 0},
        {"score_by": "bleu"},
        {"first": 0},
        {"max_new_tokens": 0},
        {"lengths": (200, 100)},
        {"lengths": (0, 100)},
        {"question_template": "Question:"},
        {"question_template": "{question} {context}"},
        {"question_template": "{question"},
    ],
    ids=str,
)
def test_wrong_settings_are_refused(wrong):
    with pytest.raises(ValueError, match="expected"):
        QA(**{"questions": Listed(asked(1)), **wrong})


def test_a_file_without_answers_is_refused(tmp_path):
    path = tmp_path / "q.jsonl"
    path.write_text(json.dumps({"question": "Who?", "answers": [], "context": "Ann."}) + "\n")
    with pytest.raises(ValueError, match=r"expected questions with answers in .*q\.jsonl, got 1 without any"):
        QA(str(path))
    with pytest.raises(FileNotFoundError, match=r"expected a file of questions at .*nothing\.jsonl"):
        QA(str(tmp_path / "nothing.jsonl"))
    path.write_text(json.dumps({"question": "Who?", "answers": ["Ann"], "context": "Ann."}) + "\n")
    assert QA(str(path)).settings["questions"] == "q.jsonl"


def test_questions_that_come_twice_are_told():
    """Under ids of their own each counts, and two rows with one accepted answer each can not both be right."""
    again = replace(asked(1, answers=("Anne",)), id="again")
    notes = QA(questions=Listed(asked(1), again, asked(2))).notes
    assert [note for note in notes if note.startswith("1 of 3 questions repeat an earlier one")]
