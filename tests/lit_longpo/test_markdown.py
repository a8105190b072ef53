"""Names and texts of any kind in Markdown, read back by a parser of its own: nothing of them becomes markup."""

from collections import Counter

import pytest
import yaml
from markdown_it import MarkdownIt

from data_modules.builders.report import BuildReport, Outcome
from lit_longpo.export.card import model_card
from lit_longpo.markdown import code, escape, table

NASTY = [
    "a|b",
    "`x` and ``y``",
    "<script>alert(1)</script>",
    "two\nlines\n\n# three",
    "[a](javascript:b)",
    "*a* _b_ ~~c~~",
]
NASTY += ["back\\slash \\| end\\", "&amp; &lt;", "half \ud83d of one", "| --- |", "  ", "- item", "> quoted"]


def parsed(text):
    return MarkdownIt("commonmark", {"html": True}).enable("table").enable("strikethrough").parse(text)


def cells(text):
    """Texts of the cells of all tables, by row; nothing in them is markup."""
    inline = [token for token in parsed(text) if token.type == "inline"]
    assert all(child.type in ("text", "text_special", "code_inline") for token in inline for child in token.children)
    rows, row = [], None
    for token in parsed(text):
        if token.type == "tr_open":
            row = []
            rows.append(row)
        elif token.type == "tr_close":
            row = None
        elif token.type == "inline" and row is not None:
            row.append("".join(child.content for child in token.children))
    return rows


def plain(text):
    return " ".join(text.encode("utf-8", "replace").decode().split())


def test_a_table_shows_every_text():
    shown = "\n".join(table(("name|s", "n"), [(text, number) for number, text in enumerate(NASTY)]))
    assert cells(shown) == [["name|s", "n"], *([plain(text), str(number)] for number, text in enumerate(NASTY))]


@pytest.mark.parametrize("text", NASTY)
def test_a_heading_and_code_show_it(text):
    heading = parsed(f"# x {escape(text)}")[1]
    assert "".join(child.content for child in heading.children) == f"x {plain(text)}".strip()
    if plain(text):
        [inside] = [child for child in parsed(f"see {code(text)}.")[1].children if child.type == "code_inline"]
        assert plain(inside.content.strip()) == plain(text)


def test_the_report_of_a_build():
    report = BuildReport()
    for number, text in enumerate(NASTY):
        report.add(Outcome(f"r{number}", "filtered", text, counts=Counter({text: 2}), verdicts=((text, True),)), len)
    rows = cells(report.as_markdown())
    for text in NASTY:
        assert [plain(text), "1"] in rows
        assert [plain(text), "2"] in rows
        assert [plain(text), "1", "0", "0", "0.0%", "0.0% - 79.3%"] in rows


@pytest.mark.parametrize("text", NASTY)
def test_the_card_of_a_model(text):
    config = {
        "policy": {"source": f"owner/{text}", "template": {"user": text}, "lora": {"target_modules": [text]}},
        "model": {"class_path": f"x.{text.replace('.', '')}", "init_args": {"name": text}},
        "data": {"class_path": "y.Data", "init_args": {"path": text}},
    }
    card = model_card(config, {"metrics": {text: 1.0}}, adapters=False)
    head, _, body = card.removeprefix("---\n").partition("\n---\n")
    assert yaml.safe_load(head.encode("utf-8", "replace").decode())["tags"][0] == "lit_longpo"
    rows = dict(row for row in cells(body) if len(row) == 2)
    assert rows[plain(text)] == "1"
    assert rows["base model"] == plain(f"owner/{text}")
    card.encode("utf-8")


@pytest.mark.parametrize(
    ("source", "gguf_file", "named"),
    [
        ("Qwen/Qwen3-8B", None, "Qwen/Qwen3-8B"),
        ("owner/quantised", "q4.gguf", "owner/quantised"),
        ("out/model", None, None),  # a folder, not the hub's
        ("./model", None, None),
        ("/models/mine", "q4.gguf", None),
    ],
)
def test_the_card_names_no_folder_as_a_model_of_the_hub(source, gguf_file, named, tmp_path, monkeypatch):
    """A base in two folders' depth was given out as the hub's model of that name (huggingface/hub-docs 1113)."""
    (tmp_path / "out" / "model").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    card = model_card({"policy": {"source": source, "gguf_file": gguf_file}}, {}, adapters=False)
    assert yaml.safe_load(card.split("---")[1]).get("base_model") == named
