"""The grammar of ``$filter``. Imported by the first filter that comes, so that a start does not pay for it."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Final, cast

from lark import Lark, Token, Transformer
from lark.exceptions import UnexpectedCharacters, UnexpectedInput, UnexpectedToken, VisitError

from .syntax import Comparison, Instant, Junction, Literal, Negation, Syntax, SyntaxFault, instant

#: Nesting of ``not``, ``and`` and ``or`` beyond this is refused: no person writes it, and walking it recurses.
MAX_DEPTH: Final = 64

_GRAMMAR = r"""
?start: disjunction
?disjunction: conjunction
    | conjunction (_OR conjunction)+   -> some
?conjunction: inversion
    | inversion (_AND inversion)+      -> every
?inversion: _NOT inversion             -> negation
    | comparison
    | call
    | "(" disjunction ")"
comparison: PATH OPERATOR _literal
call: NAME "(" PATH "," _literal ")"
_literal: STRING | MOMENT | NUMBER | CONSTANT

_OR.3: /or\b/i
_AND.3: /and\b/i
_NOT.3: /not\b/i
OPERATOR.3: /(eq|ne|ge|gt|le|lt)\b/i
CONSTANT.3: /(true|false|null)\b/i
MOMENT.4: /datetime(offset)?'[^']*'|\d{4}-\d\d-\d\d(T[\d:.]+(Z|[+-]\d\d:?\d\d)?)?/i
NAME.2: /[A-Za-z_]+(?=\s*\()/
PATH: /[A-Za-z_][A-Za-z0-9_]*(\/[A-Za-z_][A-Za-z0-9_]*)*/
STRING: /'(?:[^']|'')*'/
NUMBER: /[+-]?[0-9]+(\.[0-9]+)?(e[+-]?[0-9]+)?[lmfd]?/i
%ignore /\s+/
"""


class _Builder(Transformer[Token, Syntax]):
    """Turns what the parser recognises into values and syntax records, bottom up while it parses."""

    def comparison(self, children: list[Literal]) -> Comparison:
        path, operator, literal = children
        return Comparison(str(path), str(operator).lower(), literal)

    def call(self, children: list[Literal]) -> Comparison:
        name, path, literal = children
        return Comparison(str(path), str(name), literal)

    def negation(self, children: list[Syntax]) -> Negation:
        return Negation(children[0], _depth(children))

    def every(self, children: list[Syntax]) -> Junction:
        return Junction(is_every=True, parts=tuple(children), depth=_depth(children))

    def some(self, children: list[Syntax]) -> Junction:
        return Junction(is_every=False, parts=tuple(children), depth=_depth(children))

    # Named as the grammar's terminals.

    def STRING(self, token: Token) -> str:  # noqa: N802
        if "\0" in token:
            raise SyntaxFault(f"Position {token.start_pos}: a string must not hold the NUL character.")
        return token[1:-1].replace("''", "'")

    def MOMENT(self, token: Token) -> Instant:  # noqa: N802
        text = token.split("'")[1] if "'" in token else str(token)
        found = instant(text)
        if found is None:
            raise SyntaxFault(f"Position {token.start_pos}: '{text}' is not a date and time.")
        return found

    def NUMBER(self, token: Token) -> int | float:  # noqa: N802
        digits = token.rstrip("lLmMfFdD")
        number = int(digits) if len(digits) <= 20 and digits.lstrip("+-").isdigit() else float(digits)
        if not math.isfinite(number) or abs(number) >= 1 << 63:
            raise SyntaxFault(f"Position {token.start_pos}: the number is out of range.")
        return number

    def CONSTANT(self, token: Token) -> bool | None:  # noqa: N802
        return {"true": True, "false": False}.get(token.lower())


def _depth(children: list[Syntax]) -> int:
    depth = 1 + max(0 if isinstance(part, Comparison) else part.depth for part in children)
    if depth > MAX_DEPTH:
        raise SyntaxFault(f"The expression is nested deeper than {MAX_DEPTH} levels.")
    return depth


@lru_cache(maxsize=1)
def _parser() -> Lark:
    return Lark(_GRAMMAR, parser="lalr", transformer=_Builder(), maybe_placeholders=False)


def read(text: str) -> Syntax:
    """The syntax tree of a ``$filter``. Raises SyntaxFault."""
    try:
        return cast("Syntax", _parser().parse(text))
    except UnexpectedCharacters as error:
        position = error.pos_in_stream or 0
        raise SyntaxFault(f"Position {position}: unexpected character '{text[position]}'.") from error
    except UnexpectedToken as error:
        if error.token.type == "$END":
            raise SyntaxFault("The expression ends too early.") from error
        raise SyntaxFault(f"Position {error.token.start_pos}: unexpected '{error.token}'.") from error
    except UnexpectedInput as error:
        raise SyntaxFault("The expression is not a filter.") from error
    except VisitError as error:
        if isinstance(error.orig_exc, SyntaxFault):
            raise error.orig_exc from None
        raise
