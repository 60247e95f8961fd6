"""The Cookie header, read by its rule and by nothing else: an oracle."""

from __future__ import annotations


def read_by_hand(header: str, name: str) -> list[str]:
    """The values of the cookies of a name, found one character after the other."""
    values, pair = list[str](), list[str]()
    for character in [*header, ";"]:
        if character != ";":
            pair.append(character)
            continue
        while pair and pair[0] in {" ", "\t"}:
            del pair[0]
        while pair and pair[-1] in {" ", "\t"}:
            del pair[-1]
        if "=" in pair and "".join(pair[: (at := pair.index("="))]) == name:
            value = pair[at + 1 :]
            if len(value) >= 2 and value[0] == '"' and value[-1] == '"':
                value = value[1:-1]
            values.append("".join(value))
        pair = []
    return values
