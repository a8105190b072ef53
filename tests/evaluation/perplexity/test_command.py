import json
import math

import pytest
import torch
from support.byte_tokenizer import byte_model, byte_tokenizer
from support.command_line import CONFIGS
from transformers import AutoModelForCausalLM

from lit_longpo import __main__ as command_line

pytestmark = pytest.mark.usefixtures("blank_pictures")

TEXT = "The tide takes the path to the island twice a day. " * 3


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return byte_model(tmp_path_factory.mktemp("model"), max_position_embeddings=256)


@pytest.fixture
def texts(tmp_path):
    for name, text in (("a", TEXT[:90]), ("b", TEXT[90:])):
        (tmp_path / f"{name}.txt").write_text(text)
    return tmp_path


def measured(model, texts, *more):
    words = ("perplexity", "--model", model, "--path", texts, "--output", texts / "out", "--accelerator", "cpu", *more)
    command_line.main([str(word) for word in words])
    return json.loads((texts / "out" / "perplexity.json").read_text())


def window_losses(model, ids, starts, length):
    """Plain transformers, one window after another."""
    plain = AutoModelForCausalLM.from_pretrained(model)
    for start in starts:
        part = torch.tensor([ids[start : start + length]])
        with torch.no_grad():
            log_probs = plain(part).logits[0, :-1].log_softmax(-1)
        yield -log_probs.gather(1, part[0, 1:, None])[:, 0]


def test_a_beginning_that_is_left_out_is_said(model, texts, caplog):
    """As lm-evaluation-harness#1465 found it with Gemma: 5,909,545,606 in place of 3.5."""
    measured(model, texts, "--lengths", "[16]", "--stride", 200)
    assert "windows begin without <bos>, which the tokenizer puts before every text" in caplog.text
    caplog.clear()
    (texts / "out" / "perplexity.json").unlink()
    measured(model, texts, "--lengths", "[16]", "--stride", 200, "--bos", "true")
    assert "windows begin" not in caplog.text


def test_control_tokens_of_a_text_are_said(model, texts, caplog):
    """They count as in LongLoRA's script; of a page about templates nobody would know."""
    measured(model, texts, "--lengths", "[16]", "--stride", 200)
    assert "control tokens" not in caplog.text
    (texts / "out" / "perplexity.json").unlink()
    (texts / "c.txt").write_text("an end <eos> and <eos> again")
    measured(model, texts, "--lengths", "[16]", "--stride", 200)
    assert "2 control tokens are written out in the texts (<eos>) and read as such" in caplog.text


def test_perplexity_is_that_of_plain_transformers(model, texts):
    """LongLoRA's windows: the last possible start is left out, all of a window's tokens count."""
    ids = byte_tokenizer()(TEXT, add_special_tokens=False)["input_ids"]
    report = measured(model, texts, "--lengths", "[16, 64]", "--stride", 24)
    found = report["results"]
    assert [row["length"] for row in found] == [16, 64]
    for row in found:
        starts = range(0, len(ids) - row["length"], 24)
        losses = list(window_losses(model, ids, starts, row["length"]))
        assert row["losses"] == pytest.approx([float(loss.mean()) for loss in losses], rel=1e-5)
        mean = float(torch.stack([loss.mean() for loss in losses]).mean())
        assert (row["nll"], row["perplexity"]) == pytest.approx((mean, math.exp(mean)), rel=1e-5)
        by_position = torch.stack(losses).mean(0)
        assert row["curve"][0] == pytest.approx([1, float(by_position[0])], rel=1e-5)
        position, last = row["curve"][-1]
        assert last == pytest.approx(float(by_position[position - 1 :].mean()), rel=1e-5)
    settings = report["settings"]
    assert f"2 files, sha256 {settings['texts'][16:32]}, {len(ids)} tokens" in settings["texts"]
    assert (settings["lengths"], settings["stride"], settings["counted"]) == ([16, 64], 24, "all")
    assert {path.suffix for path in (texts / "out").iterdir()} == {".json", ".md", ".png"}


def test_what_cannot_be_read_is_said_before_a_model_is_loaded(model, texts, monkeypatch):
    monkeypatch.setattr("lit_longpo.policy.PolicyConfig.load_base", lambda self: pytest.fail("a model was loaded"))
    with pytest.raises(SystemExit, match="leave out lengths above 153 with --lengths"):
        measured(model, texts, "--lengths", "[200]")
    (texts / "out").mkdir()
    (texts / "out" / "perplexity.json").write_text('{"model": "before"}')  # it was replaced without a word
    with pytest.raises(SystemExit, match="got that of before, which would be lost; type --output FOLDER"):
        measured(model, texts, "--lengths", "[50]")


@pytest.mark.parametrize("more", [("--lengths", "[20]"), ("--stride", 7), ("--bos", "true")])
def test_a_report_of_other_windows_is_not_replaced(more, model, texts):
    """With the recipe's own output, a measurement of hours was gone."""
    measured(model, texts, "--lengths", "[16]", "--stride", 200)
    name = {"--bos": "tokens in front"}.get(more[0], more[0].removeprefix("--"))
    with pytest.raises(SystemExit, match=f"got one of other {name}, which would be lost; type --output FOLDER"):
        measured(model, texts, *("--lengths", "[16]", "--stride", 200), *more)
    measured(model, texts, "--lengths", "[16]", "--stride", 200)


@pytest.mark.parametrize(
    ("more", "name"), [(("--policy.rope.theta", 5e5), "rotary positions"), (("--policy.dtype", "bfloat16"), "dtype")]
)
def test_a_report_of_other_positions_or_numbers_is_not_replaced(more, name, model, texts):
    measured(model, texts, "--lengths", "[16]", "--stride", 200)
    with pytest.raises(SystemExit, match=f"got one of other {name}, which would be lost"):
        measured(model, texts, "--lengths", "[16]", "--stride", 200, *more)


def test_a_report_of_other_texts_is_not_replaced(model, texts):
    measured(model, texts, "--lengths", "[16]", "--stride", 200)
    (texts / "c.txt").write_text("More.")
    with pytest.raises(SystemExit, match="got one of other texts, which would be lost"):
        measured(model, texts, "--lengths", "[16]", "--stride", 200)


def test_a_model_has_as_many_names_as_there_are_ways_to_its_folder(model, texts, monkeypatch):
    """It was taken for another one."""
    measured(model, texts, "--lengths", "[16]", "--stride", 200)
    monkeypatch.chdir(model.parent)
    measured(f"./{model.name}/", texts, "--lengths", "[16]", "--stride", 200)


def test_the_configuration_states_every_option():
    text = (CONFIGS / "eval" / "perplexity.yaml").read_text()
    for option in ("path", "lengths", "stride", "counted", "max_windows", "bos", "policy", "output", "accelerator"):
        assert f"\n{option}:" in text
