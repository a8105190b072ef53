"""The prompt that a model was trained in, as its model card says, beside the one that it is given."""

import json
import logging
from itertools import takewhile
from pathlib import Path
from typing import Any

from lit_longpo.files.stored import stored_line
from lit_longpo.files.strict_json import instead
from lit_longpo.log_once import log_once
from lit_longpo.policy.prompts.prompt_template import PromptTemplate

log = logging.getLogger(__name__)

CARD = "README.md"
TEMPLATE_KEY = "prompt_template"  # in the card's head: what contexts and questions were put into, as JSON
_WORDING = ("user", "system", "chat")  # parts of a template that change what a model reads


def template_in_card(card: Path) -> Any:
    """What the head of a model card of ours says about the prompt; `None` from others, which may have such a line, too.

    Raises:
        RecordError: the line is no JSON.
    """
    if not card.is_file():
        return None
    first, *lines = card.read_text(encoding="utf-8", errors="replace").splitlines() or [""]
    head = takewhile(lambda line: line != "---", lines if first == "---" else [])
    said = next((line for line in head if line.startswith(f'{TEMPLATE_KEY}: {{"')), None)
    if said is None:
        return None
    with instead("correct that line of the model card"):
        return stored_line(said.partition(": ")[2].encode(), f"{card}: {TEMPLATE_KEY}")


def warn_of_other_prompt(source: str, template: PromptTemplate, *, has_chat_template: bool) -> None:
    """Warn, once, where a model's folder from here is given another prompt than it was trained in."""
    trained = template_in_card(Path(source) / CARD)
    if not isinstance(trained, dict):
        return
    for name in _WORDING:
        usual = has_chat_template if name == "chat" else None
        said, given = (usual if value is None else value for value in (trained.get(name), getattr(template, name)))
        if name in trained and said != given:
            log_once(
                log.warning,
                "%s reads another prompt than it was trained in: `policy.template.%s` is %s, in its training %s; give "
                "it that of its training, unless another one is meant",
                *(source, name, *(json.dumps(value, ensure_ascii=False) for value in (given, said))),
            )
