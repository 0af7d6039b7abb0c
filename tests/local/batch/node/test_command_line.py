from __future__ import annotations

import shlex

import pytest
from hypothesis import given
from hypothesis import strategies as st

from azbatchwrap.local.batch.node import split_command_line

WORDS = st.lists(st.text(st.characters(blacklist_characters="\0", blacklist_categories=["Cs"])), min_size=1)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("/bin/true", ["/bin/true"]),
        ("  echo   a\tb\nc ", ["echo", "a", "b", "c"]),
        ("/bin/sh -c 'echo $HOME && ls | wc'", ["/bin/sh", "-c", "echo $HOME && ls | wc"]),
        ('/bin/bash -c "echo \\"hi\\" \'$X\'"', ["/bin/bash", "-c", "echo \"hi\" '$X'"]),
        ("echo $HOME *.txt > out && rm", ["echo", "$HOME", "*.txt", ">", "out", "&&", "rm"]),
        ("echo # no comment", ["echo", "#", "no", "comment"]),
        ("echo '' \"\"", ["echo", "", ""]),
        ("echo héllo 'a b'c", ["echo", "héllo", "a bc"]),
        (r"echo \$HOME a\ b", ["echo", "$HOME", "a b"]),
        (r'sh -c "echo \$x"', ["sh", "-c", r"echo \$x"]),
    ],
)
def test_words(text: str, words: list[str]) -> None:
    assert split_command_line(text) == words


@pytest.mark.parametrize("text", ["", "   ", "''", "echo 'open", 'echo "open', "echo \\", "a\0b"])
def test_lines_that_are_none(text: str) -> None:
    with pytest.raises(ValueError):
        split_command_line(text)


@given(WORDS.filter(lambda words: bool(words[0])))
def test_quoted_words_come_back(words: list[str]) -> None:
    assert split_command_line(shlex.join(words)) == words


@given(st.text())
def test_any_text_is_split_or_refused(text: str) -> None:
    try:
        words = split_command_line(text)
    except ValueError:
        return
    assert words[0]
    assert "\0" not in "".join(words)


def test_the_answer_may_be_changed() -> None:
    split_command_line("echo a").append("b")
    assert split_command_line("echo a") == ["echo", "a"]
