from types import SimpleNamespace

from rich.console import Console

from evaluation.asking.questions import DocumentQuestions
from evaluation.asking.sides import Prepared, Reply, Side
from evaluation.asking.tables import ModelReplies, as_json, printable, tables
from lit_longpo.policy import PolicyConfig

ASKED = DocumentQuestions("text", ("What [b]?", "Who?"), (("tea", "milk"), ("C:\\Ada",)))


def column(role, *replies, lost=0):
    prompt = SimpleNamespace(ids=(0,) * 1234, num_lost=lost)
    side = Side(role, f"[red]{role}", PolicyConfig())
    return ModelReplies(Prepared(side, None, 4096, (prompt, prompt)), replies)


COLUMNS = [
    column("base", Reply("mi\x1b[31mlk", 2, True, (-2.5, -1.25), (1, 2)), Reply("", 0, True, (-0.5,), (3,)), lost=7),
    column("trained", Reply("[bold]tea", 64, False, (-0.25, -4.0), (1, 2)), Reply("Ada", 1, True, (-0.5,), (3,))),
]


def test_models_stand_side_by_side_and_what_they_write_is_text():
    console = Console(width=160, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    for table in tables(ASKED, COLUMNS):
        console.print(table)
    shown = console.export_text()
    rows = [[cell.strip() for cell in line.split("\u2502")[1:-1]] for line in shown.splitlines() if "\u2502" in line]
    assert ["answer", "mi\ufffd[31mlk", "[bold]tea"] in rows
    assert ["answer", "(nothing)", "Ada"] in rows
    assert ["tokens of the answer", "2", "64, cut off there (--max_new_tokens)"] in rows
    assert [
        "tokens of the prompt",
        "1,234 of 4,096 (30%); 7 cut out of the document's middle",
        "1,234 of 4,096 (30%)",
    ] in rows
    assert ["margin of the first", "-1.25", "+3.75"] in rows
    assert sum(row[0] == "margin of the first" for row in rows) == 1  # one answer has none
    assert ["log-probability of", "-2.50 (1 tokens)", "-0.25 (1 tokens)"] in rows
    assert any(row[0] == "'C:\\Ada'" for row in rows)  # as it was typed
    assert "What [b]?" in shown
    assert "[red]trained" in shown


def test_the_file_holds_the_same_and_whole_answers():
    written = as_json("doc.txt", ASKED, COLUMNS)
    assert written["models"]["base"] == {"name": "[red]base", "window": 4096}
    first = written["questions"][0]
    assert (first["question"], first["answers"]) == ("What [b]?", ["tea", "milk"])
    assert first["replies"]["trained"]["margin"] == 3.75
    assert first["replies"]["base"]["prompt_tokens_lost"] == 7
    assert first["replies"]["base"]["text"] == "mi\x1b[31mlk"


def test_what_a_terminal_would_obey_is_not_printed():
    assert printable("a\tb\nc\x1b\x07\u200bd") == "a\tb\nc\ufffd\ufffd\ufffdd"
