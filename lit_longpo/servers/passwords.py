"""Takes passwords out of the addresses of servers, stores and data bases."""

import re

# From the address of an HTTP server the whole user part is removed, which may be an access key. From that of a data
# base or store only the password is removed (SQLAlchemy takes all up to the @, slashes too, or a parameter behind the
# question mark): the user's name is needed to connect again, and `hf://gpt2@main` has none.
_USER = re.compile(
    r"(https?://)[^/@\s]+@|([a-z][a-z0-9+.-]*://)([^/@:\s]*):(?!\d+/)[^@\s]*@"
    r"|(?<=[?&])((?:password|passwd|pwd)=)[^&\s\"']*",
    re.IGNORECASE,
)


def without_passwords(text: str) -> str:
    """The text without the user part of every HTTP address in it, and without the password of every other address."""
    return _USER.sub(_shown, text)


def _shown(found: re.Match[str]) -> str:
    server, store, user, query = found.groups()
    return server or (f"{store}{user}@" if user else store) or query
