"""OpenAI-compatible servers: vLLM, SGLang, llama.cpp, TGI, `transformers serve`, hosted models."""

from lit_longpo.servers.connection import Connection, Failure, Send, Server
from lit_longpo.servers.passwords import without_passwords
from lit_longpo.servers.replies import (
    CUT_OFF,
    ENDED,
    at_limit,
    beyond_limit,
    broke_off,
    ending,
    has_choice,
    keeps_thoughts_apart,
    num_read,
    num_written,
    other_model,
    reply_text,
    whole_characters,
)

__all__ = [
    "CUT_OFF",
    "ENDED",
    "Connection",
    "Failure",
    "Send",
    "Server",
    "at_limit",
    "beyond_limit",
    "broke_off",
    "ending",
    "has_choice",
    "keeps_thoughts_apart",
    "num_read",
    "num_written",
    "other_model",
    "reply_text",
    "whole_characters",
    "without_passwords",
]
