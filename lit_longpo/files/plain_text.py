"""Text files that people name: documents, hay, what perplexity is measured on."""


def plain_text(raw: bytes) -> str:
    """The text without a byte-order mark, lines ended by newlines whoever wrote them.

    Raises:
        ValueError: it is no UTF-8, or has zero bytes, as UTF-16 without a mark; says what came, for the reader's error.
    """
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"byte {raw[error.start]:#04x} at {error.start}") from error
    if "\0" in text:
        raise ValueError("a zero byte")
    return text.replace("\r\n", "\n").replace("\r", "\n")
