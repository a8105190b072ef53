"""A hash of how a tokenizer tokenises, to recognise stored tokens and answers made with another one."""

import hashlib
import json

from lit_longpo.policy.prompts.prompting import PromptFormat
from lit_longpo.policy.prompts.stored_rules import TEXTS


def tokens_hash(prompt_format: PromptFormat) -> str:
    """Hash of the tokens that a tokenizer makes of words, numbers, signs and scripts, and of what ends answers.

    It is the same as long as these are, in any version of the libraries; the chat template is not in it.

    Args:
        prompt_format: tokenizer and template.
    """
    ids = [list(prompt_format.tokenizer(text)["input_ids"]) for text in TEXTS]
    ids.append(list(prompt_format.stop_ids))
    return hashlib.sha256(json.dumps(ids).encode()).hexdigest()[:16]
