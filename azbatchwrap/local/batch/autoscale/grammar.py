"""The grammar of autoscale formulas. Imported by the first formula that comes, so that a start does not pay for it."""

from __future__ import annotations

from functools import lru_cache
from typing import Any, Final, TypeAlias, cast

from lark import Lark, Token, Transformer
from lark.exceptions import UnexpectedCharacters, UnexpectedToken, VisitError

from .errors import SYNTAX, TOO_LONG, AutoscaleError
from .syntax import (
    Assignment,
    Call,
    Chain,
    Choice,
    Constant,
    Expression,
    Member,
    MethodCall,
    Name,
    Position,
    Statement,
    Unary,
)

#: The service's limits on a formula: characters and statements.
MAX_LENGTH: Final = 8192
MAX_STATEMENTS: Final = 100
#: Nesting of brackets, calls and choices. Ours: the service names none, and evaluation recurses.
MAX_DEPTH: Final = 100

_GRAMMAR = r"""
start: statement? (";" statement?)*
?statement: NAME "=" expression -> assignment
    | expression
?expression: disjunction
    | disjunction QUESTION expression ":" expression -> choice
?disjunction: conjunction (OR conjunction)*          -> chain
?conjunction: equality (AND equality)*               -> chain
?equality: relation (EQUALITY relation)*             -> chain
?relation: sum (RELATION sum)*                       -> chain
?sum: product ((PLUS | MINUS) product)*              -> chain
?product: unary (SCALE unary)*                       -> chain
?unary: (NOT | MINUS)* postfix                       -> unary
?postfix: primary
    | postfix "." NAME BRACKET [arguments] ")"       -> method_call
    | postfix "." NAME                               -> member
?primary: NAME                                       -> name
    | NUMBER                                         -> number
    | STRING                                         -> string
    | NAME BRACKET [arguments] ")"                   -> call
    | BRACKET expression ")"                         -> bracketed
arguments: expression ("," expression)*

NAME: /\$?[A-Za-z_][A-Za-z0-9_]*/
NUMBER: /([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]+)?/
STRING: /"[^"\n]*"/
BRACKET: "("
QUESTION: "?"
OR: "||"
AND: "&&"
EQUALITY: "==" | "!="
RELATION: "<=" | ">=" | "<" | ">"
PLUS: "+"
MINUS: "-"
SCALE: "*" | "/"
NOT: "!"
COMMENT: /\/\/[^\n]*|\/\*(?:[^*]|\*(?!\/))*\*\//
%ignore COMMENT
%ignore /\s+/
"""

#: An expression and how deep it nests.
_Nested: TypeAlias = "tuple[Expression, int]"


def _at(token: Token) -> Position:
    return Position(token.line or 1, token.column or 1)


class _Builder(Transformer[Token, Any]):
    """Builds the records bottom up while the parser runs; each expression travels with its depth."""

    def start(self, children: list[Any]) -> list[Statement]:
        return [child[0] if isinstance(child, tuple) else child for child in children]

    def assignment(self, children: list[Any]) -> Assignment:
        name, (value, _) = children
        return Assignment(str(name), _at(name), value)

    def choice(self, children: list[Any]) -> _Nested:
        condition, question, then, otherwise = children
        node = Choice(condition[0], _at(question), then[0], otherwise[0])
        return _nest(node, [condition, then, otherwise], _at(question))

    def chain(self, children: list[Any]) -> _Nested:
        if len(children) == 1:
            return cast("_Nested", children[0])
        rest = tuple((str(op), _at(op), right[0]) for op, right in zip(children[1::2], children[2::2], strict=True))
        return _nest(Chain(children[0][0], rest), children[::2], rest[0][1])

    def unary(self, children: list[Any]) -> _Nested:
        *operators, operand = children
        if not operators:
            return cast("_Nested", operand)
        node = Unary(tuple((str(op), _at(op)) for op in operators), operand[0])
        return _nest(node, [operand], _at(operators[0]))

    def method_call(self, children: list[Any]) -> _Nested:
        owner, method, bracket, arguments = children
        given = arguments or []
        node = MethodCall(owner[0], str(method), _at(bracket), tuple(argument for argument, _ in given))
        return _nest(node, [owner, *given], _at(bracket))

    def member(self, children: list[Any]) -> _Nested:
        owner, member = children
        return _nest(Member(owner[0], str(member), _at(member)), [owner], _at(member))

    def name(self, children: list[Token]) -> _Nested:
        return Name(str(children[0]), _at(children[0])), 0

    def number(self, children: list[Token]) -> _Nested:
        return Constant(float(children[0])), 0

    def string(self, children: list[Token]) -> _Nested:
        return Constant(children[0][1:-1]), 0

    def call(self, children: list[Any]) -> _Nested:
        function, bracket, arguments = children
        given = arguments or []
        return _nest(Call(str(function), _at(bracket), tuple(argument for argument, _ in given)), given, _at(bracket))

    def bracketed(self, children: list[Any]) -> _Nested:
        return cast("_Nested", children[1])

    def arguments(self, children: list[_Nested]) -> list[_Nested]:
        return children


def _nest(node: Expression, parts: list[_Nested], at: Position) -> _Nested:
    depth = 1 + max((inner for _, inner in parts), default=0)
    if depth > MAX_DEPTH:
        raise AutoscaleError(TOO_LONG, f"The expression nests deeper than {MAX_DEPTH} levels.", at)
    return node, depth


@lru_cache(maxsize=1)
def _parser() -> Lark:
    return Lark(_GRAMMAR, parser="lalr", transformer=_Builder(), maybe_placeholders=True)


@lru_cache(maxsize=128)
def read(formula: str) -> tuple[Statement, ...]:
    """The statements of a formula. Raises AutoscaleError when it is too long or no formula."""
    if len(formula) > MAX_LENGTH:
        raise AutoscaleError(TOO_LONG, f"The formula has {len(formula)} characters; at most {MAX_LENGTH} are allowed.")
    statements = tuple(_parsed(formula))
    if not statements:
        raise AutoscaleError(SYNTAX, "The formula has no statement.")
    if len(statements) > MAX_STATEMENTS:
        count = len(statements)
        raise AutoscaleError(TOO_LONG, f"The formula has {count} statements; at most {MAX_STATEMENTS} are allowed.")
    return statements


def _parsed(formula: str) -> list[Statement]:
    try:
        return cast("list[Statement]", _parser().parse(formula))
    except UnexpectedCharacters as error:
        at = Position(error.line, error.column)
        raise AutoscaleError(SYNTAX, f"Unexpected character '{error.char}'.", at) from error
    except UnexpectedToken as error:
        if error.token.type == "$END":
            raise AutoscaleError(SYNTAX, "The formula ends too early.", _end(formula)) from error
        raise AutoscaleError(SYNTAX, f"Unexpected '{error.token}'.", _at(error.token)) from error
    except VisitError as error:
        if isinstance(error.orig_exc, AutoscaleError):
            raise error.orig_exc from None
        raise


def _end(formula: str) -> Position:
    lines = formula.split("\n")
    return Position(len(lines), len(lines[-1]) + 1)
