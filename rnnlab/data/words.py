"""Text to words and back, right for scripts whose letters carry marks, as Devanagari's do."""

import re
import unicodedata
from collections.abc import Sequence


def split_words(text: str) -> list[str]:
    """Words (letters with the marks on them, digits, underscores), numbers and single marks of punctuation.

    Vowel signs, nukta and virama belong to their word, as do an apostrophe between letters and a point or comma
    between digits; the standard library's \\w leaves such marks out.
    """
    kinds = text.translate(_KINDS)
    return [text[found.start() : found.end()] for found in _WORD.finditer(kinds)]


def join_words(words: Sequence[str]) -> str:
    """Words with a space between, and none before a closing or after an opening mark of punctuation."""
    text = " ".join(words)
    return re.sub(r"([(\[{]) ", r"\1", re.sub(r" ([,.;:!?।॥…%)\]}])", r"\1", text))


class _Kinds(dict):
    """Code point -> the one letter that `_WORD` knows it by."""

    def __missing__(self, point: int) -> str:
        character = chr(point)
        category = unicodedata.category(character)
        if character in "'\u2019":
            kind = "a"
        elif character in ".,":
            kind = "n"
        elif category == "Nd":
            kind = "d"
        elif category[0] in "LMN" or character in "_\u200c\u200d":  # the joiners shape Devanagari ligatures
            kind = "w"
        else:
            kind = " " if character.isspace() else "p"
        self[point] = kind
        return kind


_KINDS = _Kinds()
_WORD = re.compile(r"(?:[wd]|(?<=w)a(?=w)|(?<=d)n(?=d))+|[anp]")
