"""The simple commands in a block of shell lines."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Mapping, Sequence

Words = tuple[str, ...]
_PREFIXES = ("!", "do", "else", "exec", "nohup", "sudo", "then", "time")
_ENDS = (";", "&", "&&", "||", "|", "(", ")", ";;")
_ASSIGNMENT = re.compile(r"[A-Za-z_]\w*=")
# what stands for a value of the reader's: NAME, <dataset>, $RANK, …
_PLACEHOLDER = re.compile(r".*(…|\$|<\w+>).*|([\w./]*/)?[A-Z][A-Z_]+([./].*)?", re.DOTALL)


def commands(script: str, prompt: bool = False) -> Iterator[Words]:
    """The words of each simple command; of a console (`prompt`) those behind `$ `.

    A loop `for x in a b` gives its commands for each value.
    """
    loops: dict[str, list[str]] = {}
    for line in lines(script, prompt):
        for words in _simple(line):
            if words[0] == "for" and words[2:3] == ("in",):
                loops[words[1]] = list(words[3:])
                continue
            yield from _expanded(words, loops)


def lines(script: str, prompt: bool) -> Iterator[str]:
    """Each command on a line of its own, without prompts and the text of here-documents."""
    rest = iter(script.split("\n"))
    for line in rest:
        if prompt and not line.startswith("$ "):
            continue
        line = line.removeprefix("$ ")
        while line.rstrip().endswith("\\"):
            line = line.rstrip()[:-1] + next(rest, "").removeprefix("> ")
        if match := re.search(r"<<\s*'?(\w+)'?", line):  # the text of a here-document is no command
            for text in rest:
                if text.strip() == match[1]:
                    break
            line = line[: match.start()] + line[match.end() :]
        yield line


def _simple(line: str) -> Iterator[Words]:
    """Raises ValueError for a quote that is not closed."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars="();<>|&")
    lexer.whitespace_split = True
    words: list[str] = []
    tokens = iter([*lexer, ";"])
    for token in tokens:
        if token in _ENDS:
            while words and (words[0] in _PREFIXES or _ASSIGNMENT.match(words[0])):
                words.pop(0)
            if words and words not in (["done"], ["fi"]):
                yield tuple(words)
            words = []
        elif set(token) <= set("<>&"):
            next(tokens, None)  # the file
        else:
            words.append(token)


def _expanded(words: Words, loops: Mapping[str, Sequence[str]]) -> Iterator[Words]:
    for name, values in loops.items():
        if any(f"${name}" in word for word in words):
            for value in values:
                yield from _expanded(
                    tuple(word.replace(f"${name}", value) for word in words), loops
                )
            return
    yield words


def placeholder(word: str) -> bool:
    """Whether a reader has to put something of theirs in its place."""
    return _PLACEHOLDER.fullmatch(word) is not None
