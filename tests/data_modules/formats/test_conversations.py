"""Transcripts as files from Windows have them."""

from data_modules.formats.conversations import Transcripts
from data_modules.messages import Message


def test_line_ends_of_windows_part_a_transcript():
    """All of such a prompt was one message of the user, the assistant's answers in it."""
    prompt = "\n\nHuman: Hello.\n\nAssistant: Hello!\n\nHuman: A line.\n\nAnd another one?\n\nAssistant:"
    record = {"prompt": prompt.replace("\n", "\r\n"), "chosen": " Yes.\r\n", "rejected": " No."}
    pair = Transcripts().pair(record, "a.jsonl:1", "a")
    assert pair.history == (Message("user", "Hello."), Message("assistant", "Hello!"))
    assert (pair.long_context, pair.chosen) == ("A line.\r\n\r\nAnd another one?", "Yes.")
