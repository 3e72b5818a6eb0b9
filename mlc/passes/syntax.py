"""The text of a pass pipeline as a tree: `builtin.module(func.func(cse),my-pass{tiles=4,8 fast})`. Errors point at the character.

Knows nothing of which passes exist. Options are kept as text (C++ passes get them verbatim) and split on demand.
"""

from dataclasses import dataclass

from mlc.errors import PassError

WINDOW = 100  # of a long pipeline, an error shows this many characters


@dataclass(frozen=True)
class Source:
    """A pipeline text, and how to call it in an error."""

    text: str
    name: str = "pass pipeline"

    def error(self, message: str, at: int, *, hint: str | None = None) -> PassError:
        """A PassError that shows the text's line with a caret under position `at`."""
        start = self.text.rfind("\n", 0, at) + 1
        end = self.text.find("\n", at)
        line = self.text[start:end if end >= 0 else len(self.text)]
        column, shown = at - start, at - start
        if len(line) > WINDOW:
            left = max(0, min(column - WINDOW // 2, len(line) - WINDOW))
            line = ("..." if left else "") + line[left:left + WINDOW] + ("..." if left + WINDOW < len(line) else "")
            shown = column - left + 3 * bool(left)
        number = self.text.count("\n", 0, at) + 1
        return PassError(f"{self.name}:{number}:{column + 1}: {message}\n  {line}\n  {' ' * shown}^", hint=hint)


@dataclass(frozen=True)
class Node:
    """A pass or named pipeline (children is None), or an anchor op with the passes under it."""

    name: str
    at: int
    options: str = ""
    options_at: int = 0
    children: "tuple[Node, ...] | None" = None

    @property
    def text(self) -> str:
        options = f"{{{self.options}}}" if self.options else ""
        return self.name + options + ("" if self.children is None else f"({','.join(c.text for c in self.children)})")


def parse(source: Source) -> tuple[Node, ...]:
    """The top-level items of a pipeline."""
    parser = _Parser(source)
    nodes = parser.items()
    if parser.at < len(source.text):
        found = source.text[parser.at]
        raise source.error("unbalanced ')'" if found == ")" else f"expected ',' or the end, found '{found}'", parser.at)
    return nodes


def split_options(source: Source, node: Node) -> dict[str, tuple[str, int]]:
    """`a=1 b={x y} c` as {key: (value, position)}; a key without '=' has the value ''. Quotes and braces around values are removed."""
    found: dict[str, tuple[str, int]] = {}
    text, at = node.options, 0
    while at < len(text):
        if text[at].isspace():
            at += 1
            continue
        start = at
        while at < len(text) and text[at] != "=" and not text[at].isspace():
            at += 1
        key, value = text[start:at], ""
        if not key:
            raise source.error("expected an option name", node.options_at + start)
        if at < len(text) and text[at] == "=":
            end = _value_end(source, node, at + 1)
            value, at = text[at + 1:end], end
            if len(value) >= 2 and (value[0], value[-1]) in (("{", "}"), ('"', '"'), ("'", "'")):
                value = value[1:-1]
        if key in found:
            raise source.error(f"option '{key}' is given twice", node.options_at + start)
        found[key] = (value, node.options_at + start)
    return found


def _value_end(source: Source, node: Node, start: int) -> int:
    text, at, depth = node.options, start, 0
    while at < len(text) and (depth or not text[at].isspace()):
        if text[at] in "\"'":
            closing = text.find(text[at], at + 1)
            if closing < 0:
                raise source.error("unterminated quote", node.options_at + at)
            at = closing
        depth += {"{": 1, "}": -1}.get(text[at], 0)
        at += 1
    return at


class _Parser:
    def __init__(self, source: Source) -> None:
        self.source, self.text, self.at = source, source.text, 0

    def space(self) -> None:
        while self.at < len(self.text) and self.text[self.at].isspace():
            self.at += 1

    def next_is(self, char: str) -> bool:
        self.space()
        return self.at < len(self.text) and self.text[self.at] == char

    def items(self) -> tuple[Node, ...]:
        found: list[Node] = []
        self.space()
        if self.at == len(self.text) or self.text[self.at] == ")":
            return ()
        while True:
            found.append(self.item())
            if not self.next_is(","):
                return tuple(found)
            self.at += 1

    def item(self) -> Node:
        self.space()
        start = self.at
        while self.at < len(self.text) and self.text[self.at] not in ",(){}" and not self.text[self.at].isspace():
            self.at += 1
        if start == self.at:
            found = f", found '{self.text[start]}'" if start < len(self.text) else ""
            raise self.source.error(f"expected a pass name{found}", start)
        name, options, options_at = self.text[start:self.at], "", 0
        if self.next_is("{"):
            options_at = self.at + 1
            options = self.braces()
        if not self.next_is("("):
            return Node(name, start, options, options_at)
        if options:
            raise self.source.error(f"'{name}' has nested passes, so it takes no options", options_at - 1)
        opening = self.at
        self.at += 1
        children = self.items()
        if not self.next_is(")"):
            raise self.source.error("this '(' is never closed", opening)
        self.at += 1
        return Node(name, start, children=children)

    def braces(self) -> str:
        """The text between balanced braces; quotes hide braces."""
        start, depth = self.at, 0
        while self.at < len(self.text):
            char = self.text[self.at]
            if char in "\"'":
                self.at = max(self.text.find(char, self.at + 1), self.at)
            depth += {"{": 1, "}": -1}.get(char, 0)
            self.at += 1
            if depth == 0:
                return self.text[start + 1:self.at - 1]
        raise self.source.error("this '{' is never closed", start)
