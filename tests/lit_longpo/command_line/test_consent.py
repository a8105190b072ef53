"""Nobody but the command line allows a model's code to run."""

import json

import pytest
from jsonargparse import Namespace
from support.command_line import CONFIGS, parse

from evaluation.command import parse_evaluation
from lit_longpo.command_line.consent import not_consented

TYPED = "--policy.trust_remote_code=true"
POLICY = Namespace(source="embedded", trust_remote_code=True)


@pytest.fixture
def gift(tmp_path):
    path = tmp_path / "trust_remote_code.yaml"
    path.write_text(json.dumps({"policy": {"source": "embedded", "trust_remote_code": True}}))
    return path


@pytest.mark.parametrize(
    ("values", "name"),
    [
        (Namespace(policy=POLICY), "policy"),
        (Namespace(fit=Namespace(policy=POLICY)), "policy"),
        (Namespace(reference=Namespace(policy=Namespace(class_path="P", init_args=POLICY))), "reference.policy"),
        (Namespace(data=Namespace(init_args=Namespace(parts=[{"policy": POLICY}]))), "data.parts.policy"),
    ],
)
def test_wherever_a_policy_is_its_code_has_to_be_typed(values, name):
    typed = f"--{name}.trust_remote_code"
    assert f"type {typed} true" in not_consented(values, ["fit", "--config", "trust_remote_code"], ["fit"])
    assert f"type {typed} true" in not_consented(values, ["fit", f"--{name}", "trust_remote_code.yaml"], ["fit"])
    for words in ([typed, "true"], [f"{typed}=true"], [f"--{name}", '{"trust_remote_code": true}']):
        assert not_consented(values, ["fit", *words], ["fit"]) is None
    assert not_consented(Namespace(policy=Namespace(trust_remote_code=False)), []) is None


def test_fit_does_not_ask_a_file(gift, capsys):
    with pytest.raises(SystemExit):
        parse("--config", CONFIGS / "dpo.yaml", "--config", gift)
    assert "cannot say yes for you; type --policy.trust_remote_code true" in capsys.readouterr().err
    assert parse("--config", CONFIGS / "dpo.yaml", "--config", gift, TYPED).policy.trust_remote_code


def test_evaluate_does_not_either(gift, capsys):
    words = ["--config", str(CONFIGS / "eval/needle.yaml"), "--output", "nowhere", "--config", str(gift)]
    with pytest.raises(SystemExit):
        parse_evaluation(words)
    assert "cannot say yes for you; type --policy.trust_remote_code true" in capsys.readouterr().err
    assert parse_evaluation([*words, TYPED])[0].respondent.policy.trust_remote_code
