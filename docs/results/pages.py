"""Text between markers of a Markdown page, and a line of its tables."""

import re
from collections.abc import Iterable


def replaced(page: str, name: str, text: str) -> str:
    """The page with the text between the markers of a suite.

    Args:
        page: of Markdown.
        name: of the suite.
        text: what stands between `<!-- results:NAME -->` and `<!-- /results:NAME -->`.

    Raises:
        ValueError: the page has no such markers.
    """
    start, end = f"<!-- results:{name} -->", f"<!-- /results:{name} -->"
    found = re.compile(f"{re.escape(start)}.*?{re.escape(end)}", re.DOTALL)
    if not found.search(page):
        raise ValueError(f"expected {start} and {end} in the page, found none; write them where the tables belong")
    return found.sub(lambda _: f"{start}\n{text}\n{end}", page)


def line(cells: Iterable[str]) -> str:
    """A row of a table."""
    return f"| {' | '.join(cells)} |"
