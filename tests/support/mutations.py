"""What can be wrong with a file that was right: one change of its values, of its text or of its bytes.

`fuzz` runs a property on such changes. A reader may give what it gave, or what is there now, or refuse in one line.
"""

import json
import re
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lit_longpo.errors import message_for_user

SECONDS = 60  # until what hangs is a failure; nothing here takes one
DEEP = 3000
MARK = "zq"  # in every text that a change brings in

JUNK = (
    *(None, True, False, 0, -1, 3, 1.5, -0.0, 1e308, 10**40, float("nan"), float("inf")),
    *(
        "",
        " ",
        "\n",
        f"{MARK} text",
        f"{MARK}\u202e\u0000\ufeff\u2028",
        f"{MARK} \ud800",
        "1",
        "true",
        "null",
        "[]",
        "NaN",
    ),
    *([], {}, [[]], [None], [{}], [f"{MARK} item"], {f"{MARK}": f"{MARK} value"}, [[f"{MARK} a", f"{MARK} b"]]),
    [{"role": "user", "content": f"{MARK} said"}],
    {"role": "assistant", "content": f"{MARK} said"},
)


@dataclass(frozen=True)
class Refused:
    """The one line of an error."""

    message: str


def outcome(read: Callable[[], Any]) -> Any:
    """What a reader gives, or its refusal; anything else that it raises stays raised.

    Raises:
        AssertionError: a refusal of several lines, or of too many words.
    """
    with limited():
        try:
            return read()
        except Exception as error:
            message = message_for_user(error)
            if message is None:
                raise
    assert "\n" not in message, message
    assert 20 < len(message) < 3000, message
    return Refused(message)


@contextmanager
def limited(seconds: int = SECONDS) -> Iterator[None]:
    """An error in what does not end."""

    def end(*_: Any) -> None:
        raise TimeoutError(f"not done after {seconds} seconds")

    before = signal.signal(signal.SIGALRM, end)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def fuzz(test: Callable[[st.DataObject], None], examples: int) -> None:
    """Run a property; few examples are always the same ones."""
    few = examples < 100
    options = settings(
        max_examples=examples,
        deadline=None,
        derandomize=few,
        database=None,
        suppress_health_check=list(HealthCheck),
        print_blob=True,
    )
    options(given(st.data())(test))()


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Of every value in a tree."""
    yield path
    children = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, child in children:
        yield from places(child, (*path, key))


def leaves(value: Any) -> Iterator[str]:
    """Texts of a tree that are no keys."""
    if isinstance(value, str):
        yield value
    for child in value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple) else ():
        yield from leaves(child)


def _drop(draw: Any, parent: Any, key: Any) -> None:
    del parent[key]


def _retype(draw: Any, parent: Any, key: Any) -> None:
    parent[key] = deepcopy(draw(st.sampled_from(JUNK)))


def _wrap(draw: Any, parent: Any, key: Any) -> None:
    parent[key] = [parent[key]] if draw(st.booleans()) else {"value": parent[key]}


def _double(draw: Any, parent: Any, key: Any) -> None:
    if isinstance(parent, list):
        parent.insert(key, deepcopy(parent[key]))
    else:
        parent[f"{key}_{MARK}"] = deepcopy(parent[key])


def _rename(draw: Any, parent: Any, key: Any) -> None:
    if isinstance(key, str):
        changed = draw(st.sampled_from([key.upper(), f"{key}s", key[:-1], f" {key}", key.replace("e", "\u0435", 1)]))
        parent[changed] = parent.pop(key)
    else:
        parent.reverse()


def _trade(draw: Any, parent: Any, key: Any) -> None:
    other = draw(st.sampled_from(list(parent) if isinstance(parent, dict) else range(len(parent))))
    parent[key], parent[other] = parent[other], parent[key]


def _deepen(draw: Any, parent: Any, key: Any) -> None:
    for _ in range(draw(st.sampled_from([5, 60]))):
        parent[key] = [parent[key]]


def _reword(draw: Any, parent: Any, key: Any) -> None:
    if isinstance(parent[key], str):
        ends = [f"{MARK}-", "\ud83d", "\u0000", "\u00a0", "\u2028", "\u0301", f"<|im_end|>{MARK}", "\r\n"]
        parent[key] = draw(st.sampled_from(ends)) + parent[key]
    else:
        _retype(draw, parent, key)


CHANGES = (_drop, _retype, _retype, _retype, _wrap, _double, _rename, _trade, _deepen, _reword)


def changed(draw: Any, value: Any) -> Any:
    """A copy of a tree with one or two values changed."""
    root = [deepcopy(value)]
    for _ in range(draw(st.sampled_from([1, 1, 1, 2]))):
        path = draw(st.sampled_from(list(places(root))[1:] or [(0,)]))
        parent = root
        for key in path[:-1]:
            parent = parent[key]
        draw(st.sampled_from(CHANGES if len(path) > 1 else (_retype, _wrap)))(draw, parent, path[-1])
        if not root:
            return None
    return root[0]


def damaged(draw: Any, raw: bytes) -> bytes:
    """A file's bytes with one change."""
    return draw(st.sampled_from(DAMAGES))(draw, raw)


def _cut(draw: Any, raw: bytes) -> bytes:
    return raw[: draw(st.integers(0, len(raw)))]


def _flip(draw: Any, raw: bytes) -> bytes:
    place, bit = draw(st.integers(0, max(0, len(raw) - 1))), draw(st.integers(0, 7))
    return raw[:place] + bytes([raw[place] ^ (1 << bit)]) + raw[place + 1 :] if raw else raw


def _insert(draw: Any, raw: bytes) -> bytes:
    place = draw(st.integers(0, len(raw)))
    strange = [
        b"\x00",
        b"\xff",
        b"\xef\xbb\xbf",
        b"\n",
        b"\r",
        b'"',
        b"{",
        b"]",
        b",",
        b"\\",
        b"\xe2\x80\xa8",
        b"#",
        b":",
    ]
    return raw[:place] + draw(st.sampled_from(strange)) + raw[place:]


def _hole(draw: Any, raw: bytes) -> bytes:
    place, length = draw(st.integers(0, len(raw))), draw(st.integers(1, 200))
    length = min(length, len(raw) - place)
    return raw[:place] + b"\x00" * length + raw[place + length :]


def _take_out(draw: Any, raw: bytes) -> bytes:
    place = draw(st.integers(0, len(raw)))
    return raw[:place] + raw[place + draw(st.integers(1, 40)) :]


def _again(draw: Any, raw: bytes) -> bytes:
    return raw * 2


def _encoded(draw: Any, raw: bytes) -> bytes:
    text = raw.decode("utf-8", "replace")
    return text.encode(
        draw(st.sampled_from(["utf-16", "utf-16-be", "utf-32", "utf-8-sig", "utf-7", "cp500"])), "replace"
    )


def _line_ends(draw: Any, raw: bytes) -> bytes:
    return raw.replace(b"\n", draw(st.sampled_from([b"\r\n", b"\r", b"\n\n", b"\xc2\x85"])))


def _lines(draw: Any, raw: bytes) -> bytes:
    lines = raw.split(b"\n")
    one, other = (draw(st.integers(0, len(lines) - 1)) for _ in range(2))
    lines[one], lines[other] = lines[other], lines[one] * draw(st.sampled_from([0, 1, 2]))
    return b"\n".join(lines)


def _twice(draw: Any, raw: bytes) -> bytes:
    """A key given twice, or another value for it."""
    keys = list(re.finditer(rb'"(\w+)"\s*:', raw))
    if not keys:
        return raw
    key = draw(st.sampled_from(keys))
    value = json.dumps(draw(st.sampled_from(JUNK))).encode()
    return raw[: key.start()] + key.group() + value + b", " + raw[key.start() :]


def _number(draw: Any, raw: bytes) -> bytes:
    numbers = list(re.finditer(rb"(?<![\w.])-?\d+(\.\d+)?(?![\w.])", raw))
    if not numbers:
        return raw
    found = draw(st.sampled_from(numbers))
    new = draw(
        st.sampled_from([b"NaN", b"-Infinity", b"1e999", b"9" * 5000, b"-1", b"0", b"1.0", b"007", b"0x1", b"1_0"])
    )
    return raw[: found.start()] + new + raw[found.end() :]


def _nested(draw: Any, raw: bytes) -> bytes:
    place = draw(st.integers(0, len(raw)))
    return raw[:place] + draw(st.sampled_from([b"[", b'{"a":'])) * DEEP + raw[place:]


DAMAGES = (
    _cut,
    _flip,
    _flip,
    _insert,
    _hole,
    _take_out,
    _again,
    _encoded,
    _line_ends,
    _lines,
    _twice,
    _number,
    _nested,
)
