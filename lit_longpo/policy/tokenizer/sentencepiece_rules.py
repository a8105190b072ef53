"""A vocabulary in tokenizer.model alone, beside the tokens that SentencePiece itself makes by it.

transformers 5 builds merges out of the order of its pieces, not of their scores, by which Llama's and Mistral's files
put runs of spaces last (indented code and lists get other tokens), and some classes begin no text with a space.
"""

import logging
import re
from pathlib import Path

from transformers import PreTrainedTokenizerBase

from lit_longpo.errors import MissingFileError
from lit_longpo.log_once import log_once
from lit_longpo.policy.locations import stored_file
from lit_longpo.policy.tokenizer.stored_rules import TEXTS

log = logging.getLogger(__name__)


def check_sentencepiece_rules(tokenizer: PreTrainedTokenizerBase, where: str, revision: str | None = None) -> None:
    """Refuse a tokenizer that reads texts in another way than its tokenizer.model says.

    Raises:
        MissingFileError: there is no tokenizer.json, whose merges are in order.
    """
    path = stored_file(where, "tokenizer.model", revision)
    if path is None or not tokenizer.is_fast or is_tiktokens(path):  # a slow one reads the file itself
        return
    if stored_file(where, "tokenizer.json", revision) is not None:
        return
    from sentencepiece import SentencePieceProcessor

    pieces = SentencePieceProcessor(model_file=str(path))
    begins = "add_prefix_space" in tokenizer.init_kwargs  # the settings say whether texts begin with a space
    for text in TEXTS:
        ids = tokenizer.encode(text, add_special_tokens=False)
        expected = [pieces.encode(text), *([pieces.encode(f" {text}")] if begins else [])]
        if ids not in expected and not (begins and tokenizer.encode(f" {text}", add_special_tokens=False) in expected):
            raise MissingFileError(
                f"expected tokenizer.json at {where}, found tokenizer.model alone, of which transformers "
                f"{type(tokenizer).__name__} makes other tokens than SentencePiece ({text!r}, for example); copy "
                "tokenizer.json from the model's repository, or let transformers 4 write it: "
                "AutoTokenizer.from_pretrained(FOLDER).save_pretrained(FOLDER)"
            )
    ids = [tokenizer.encode(text, add_special_tokens=False) for text in (TEXTS[0], f" {TEXTS[0]}")]
    if ids[0] == pieces.encode(TEXTS[0]) and ids[1] != pieces.encode(f" {TEXTS[0]}"):
        log_once(  # a text's own first space takes the place of the one that the vocabulary puts before every text
            log.warning,
            "%s has tokenizer.model alone: where a text, or what comes behind a control token, begins with a space, "
            "transformers makes other tokens than SentencePiece; copy tokenizer.json from the model's repository",
            where,
        )


def is_tiktokens(path: Path) -> bool:
    """Whether its lines are tokens in base64 and their ranks (Llama 3's own files, GLM-4's), not sentencepiece's."""
    with path.open("rb") as file:
        return re.fullmatch(rb"[A-Za-z0-9+/]+=* \d+\s*", file.readline(1000)) is not None
