"""File names in messages: a name may hold anything, and a message is one line that prints."""

import unicodedata
from pathlib import Path

# Control characters, halves of what is no UTF-8, line and paragraph separators. Joiners and
# unusual spaces stay: scripts, emoji and the names of screenshots need them.
_ESCAPED = ("Cc", "Cs", "Zl", "Zp")


def printable(text: str | Path) -> str:
    r"""Return a text with line ends, other controls and no UTF-8 as ``\n``, ``\udcff``."""
    return "".join(
        each.encode("unicode_escape").decode("ascii")
        if unicodedata.category(each) in _ESCAPED
        else each
        for each in str(text)
    )
