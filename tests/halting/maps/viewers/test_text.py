"""A ponder map as text: the lines of a terminal, and the snippet of a notebook."""

import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from fabricated_maps import empty, fabricate, fabricate_text, small, with_texts
from rich.cells import cell_len
from rich.text import Text

from halting import UsageError
from halting.maps.viewers.caption import percent
from halting.maps.viewers.colours import step_colour
from halting.maps.viewers.page.snippet import snippet
from halting.maps.viewers.picture.map import save_map_picture
from halting.maps.viewers.terminal.map import render
from halting.maps.viewers.visible_text import one_cell, visible

HOSTILE = "</script><img src=x onerror=alert(1)>"


def test_the_terminal_shows_exactly_this() -> None:
    assert render(small(), width=100, colour=False, ascii_only=True, bars=True) == "\n".join(
        [
            "parity-001 | parity | GravesACT | at most 10 steps | 4.00 steps a token | 75 % right",
            "",
            "sequence 1 of 2",
            "tok     1   0   1",
            "steps   1   2  10",
            "wrong       x",
            "",
            "sequence 2 of 2",
            "tok    0",
            "steps  3",
            "",
            "steps: share of tokens",
            *(
                f"{n:2}  {'#' * (50 if n in (1, 2, 3, 10) else 0):50}  "
                f"{25 if n in (1, 2, 3, 10) else ' 0'} %"
                for n in range(1, 11)
            ),
            "",
            "ones: mean steps (Spearman 0.95)",
            f"0  {'#' * 5:50}   1.00",
            f"1  {'#' * 12:50}   2.50",
            f"5  {'#' * 50}  10.00",
        ]
    )


def test_a_single_map_without_heading() -> None:
    lines = render(small().sequence(1), width=80, colour=False, heading=False).splitlines()
    assert lines == ["tok    0", "steps  3"]


def test_the_number_of_sequences_shown() -> None:
    assert [render(fabricate(), sequences=n, colour=False).count("tok ") for n in (0, 1, 4, 9)] == [
        0,
        1,
        4,
        4,
    ]


@pytest.mark.parametrize("width", [1, 11, 20, 40, 79, 200])
@pytest.mark.parametrize("ascii_only", [False, True])
def test_no_line_is_wider_than_the_width(width: int, ascii_only: bool) -> None:
    narrowest = 11  # a label and one token
    maps = [
        fabricate(2, 40),
        fabricate_text("def f(x):\n\treturn 日本語, 'שלום'\n" * 3),
        with_texts(
            [
                " the",
                "incomprehensibilities",
                "日本語" * 9,
                "👩‍🚀",
                "e\u0301",
                "\u0301",
                "שלום",
                "\x1b[31m",
            ]
        ),
    ]
    for found in maps:
        text = render(found, width=width, colour=False, ascii_only=ascii_only, heading=False)
        assert max(map(cell_len, text.splitlines())) <= max(width, narrowest)
        assert text.isascii() or not ascii_only
        steps = "".join(line[5:] for line in text.splitlines() if line.startswith("steps"))
        shown = sum(
            found.steps[row, : found.valid[row].sum()].size for row in range(found.num_sequences)
        )
        assert len(re.findall(r"\d+", steps)) == shown or len("".join(steps.split())) == shown


def test_texts_and_steps_stand_in_one_column() -> None:
    found = with_texts(["日", "ab", "ש", "e\u0301", "\u0301"])
    token_line, steps_line = render(found, width=80, colour=False, heading=False).splitlines()
    plain = token_line.replace("\u200e", "")
    ends = [cell_len(plain[: match.end()]) for match in re.finditer(r"\S+", plain)][1:]
    assert (
        ends
        == [match.end() for match in re.finditer(r"\S+", steps_line)][1:]
        == [9, 13, 17, 21, 25]
    )
    assert token_line.count("ש\u200e") == 1, (
        "a terminal that reorders would move the cells after it"
    )


def test_long_sequences_of_characters_are_dense() -> None:
    found = replace(
        fabricate_text("ab\n\tc" * 4), steps=np.full((1, 20), 8), texts=[list("ab\n\tc" * 4)]
    )
    lines = render(found, width=30, colour=False, heading=False).splitlines()
    assert lines == ["tok    " + "ab⏎⇥c" * 4, "steps  " + "8" * 20]
    assert render(found, width=30, colour=False, ascii_only=True, heading=False).startswith(
        "tok    ab$>cab"
    )


@pytest.mark.parametrize(("steps", "digit"), [(9, "9"), (10, "a"), (35, "z"), (36, "+")])
def test_dense_steps_beyond_nine(steps: int, digit: str) -> None:
    found = replace(fabricate_text("x" * 40, max_steps=40), steps=np.full((1, 40), steps))
    assert (
        render(found, width=60, colour=False, heading=False).splitlines()[1]
        == "steps  " + digit * 40
    )


def test_no_control_character_reaches_the_terminal() -> None:
    hostile = ["\x1b[2J", "\x07", "\u202e", "\x9b31m", "\r", "\u2028", "\ud800", "\ue000", "\u200b"]
    named = replace(
        with_texts(hostile), metadata={"run": "\x1b]0;x\x07", "difficulty_name": "\x1b"}
    )
    for ascii_only in (False, True):
        text = render(named, width=200, colour=False, ascii_only=ascii_only, bars=True)
        assert [c for c in text if not c.isprintable() and c != "\n"] == []
        text.encode()


@pytest.mark.parametrize(
    ("text", "shown", "in_ascii"),
    [
        (" the\n", "␣the⏎", "\\sthe\\n"),
        ("\x1b", "␛", "\\x1b"),
        ("\x7f", "␡", "\\x7f"),
        ("\u00a0", "␣", "\\xa0"),
        ("\u202e", "\\u202e", "\\u202e"),
        ("\u0301", "◌\u0301", "\\u0301"),
        ("\\", "\\", "\\"),
        ("👩\u200d🚀", "👩🚀", "\\U0001f469\\u200d\\U0001f680"),
    ],
)
def test_visible_texts(text: str, shown: str, in_ascii: str) -> None:
    assert (visible(text), visible(text, ascii_only=True)) == (shown, in_ascii)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("👩\u200d🚀\n", "👩\u200d🚀⏎"),
        ("\u200da\u200d", "a"),
        ("\u200d", "\\u200d"),
        ("❤\ufe0f", "❤\ufe0f"),
        ("", ""),
    ],
)
def test_texts_for_a_browser_keep_joined_emoji(text: str, shown: str) -> None:
    assert visible(text, joined=True) == shown


@pytest.mark.parametrize("character", ["a", " ", "\n", "\\", "\u202e", "\x00", "é"])
def test_one_cell_is_one_cell(character: str) -> None:
    assert cell_len(one_cell(character)) == 1
    assert (
        one_cell(character, ascii_only=True).isascii()
        and len(one_cell(character, ascii_only=True)) == 1
    )


def test_colours_on_request_with_the_same_text(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLORTERM", "truecolor")
    coloured = render(small(), width=80, colour=True, bars=True)
    plain = render(small(), width=80, colour=False, bars=True)
    decoded = [line.rstrip() for line in Text.from_ansi(coloured).plain.splitlines()]
    assert decoded == plain.splitlines()
    red, green, blue = (int(step_colour(10, 10)[place : place + 2], 16) for place in (1, 3, 5))
    assert f"48;2;{red};{green};{blue}m" in coloured and "\x1b" not in plain


@pytest.mark.parametrize(
    ("terminal", "no_color", "coloured"), [(True, "", True), (True, "1", False), (False, "", False)]
)
def test_colours_by_themselves(
    monkeypatch: pytest.MonkeyPatch, terminal: bool, no_color: str, coloured: bool
) -> None:
    monkeypatch.setattr("sys.stdout.isatty", lambda: terminal, raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("NO_COLOR", no_color)
    assert ("\x1b[" in render(small(), width=80)) == coloured


def test_width_of_the_terminal_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "33")
    assert render(fabricate(), colour=False) == render(fabricate(), width=33, colour=False)


def test_a_map_prints_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert str(small()) == render(small(), width=80, colour=False)
    assert repr(small()).startswith(
        "PonderMap(2 sequences, 3 positions, 10 steps; mean steps 4.00; with targets"
    )


@pytest.mark.parametrize("batch", [0, 2])
def test_empty_maps_are_shown_and_not_drawn(tmp_path: Path, batch: int) -> None:
    text = render(empty(batch, 2), colour=False, bars=True)
    assert text.count("(no tokens)") == batch and text.startswith("at most 4 steps")
    assert snippet(empty(batch, 2), 9).count("(no tokens)") == batch
    with pytest.raises(UsageError, match="no tokens" if batch else "Make a map with sequences"):
        save_map_picture(empty(batch, 2), tmp_path / "map.png")


class Balance(HTMLParser):
    """Collects the tags of a page, and checks that each is closed in its turn."""

    def __init__(self, text: str):
        super().__init__()
        self.tags: list[str] = []
        self.words: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self._open: list[str] = []
        self.feed(text)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs
        self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)


def test_the_snippet_escapes_what_it_shows() -> None:
    hostile = replace(
        small(),
        texts=[[HOSTILE, '"><b onmouseover=x>', "&amp;"], ["'", "", ""]],
        metadata={
            "run": HOSTILE,
            "difficulty_name": f'"{HOSTILE}',
            "answers": [HOSTILE, '" autofocus onfocus="x'],
        },
    )
    text = snippet(hostile, 9)
    found = Balance(text)
    assert set(found.tags) <= {"style", "h2", "div", "p", "span", "b"}
    assert not [
        name
        for name, _ in found.attributes
        if name.startswith("on") or name in ("src", "href", "autofocus")
    ]
    assert HOSTILE.replace(" ", "␣") in found.words and "&amp;" in found.words
    assert "http" not in text, "no network"


def test_the_snippet_shows_text_steps_and_what_is_known() -> None:
    text = snippet(small(), 9)
    cells = re.findall(r'<span class="([^"]*)" title="([^"]*)">([^<]*)<b>(\d+)</b></span>', text)
    assert [(classes, token, int(steps)) for classes, _, token, steps in cells] == [
        ("s1of10", "1", 1),
        ("s2of10 wrong", "0", 2),
        ("s10of10", "1", 10),
        ("s3of10", "0", 3),
    ]
    assert cells[1][1].splitlines() == [
        "token 1: 0",
        "steps 2 of 10",
        "exit mass 1.00 at step 2",
        "said 1",
        "right answer 0",
        "ones 1",
    ]
    assert "✗ wrong answer" in text


def test_the_snippet_tells_readouts_with_their_answers() -> None:
    found = fabricate(1, 1, 4)
    assert found.predictions is not None and found.confidence is not None
    named = replace(found, metadata={"answers": {int(found.predictions[0, 0, 0]): "seven"}})
    wanted = f"seven at step 1 ({percent(float(found.confidence[0, 0, 0]))})"
    assert wanted in snippet(named, 1)


def test_a_notebook_shows_three_sequences_and_maps_of_several_depths() -> None:
    assert fabricate()._repr_html_().count("<h2>") == 3
    rules = [set(re.findall(r"\.(s\d\S*) ", fabricate(max_steps=n)._repr_html_())) for n in (8, 10)]
    assert rules[0] and not rules[0] & rules[1], "the colours of one map would colour the other"


@pytest.mark.parametrize(
    ("share", "shown"),
    [(0, "0 %"), (1, "100 %"), (0.9999, "99.9 %"), (0.00001, "0.1 %"), (0.5, "50 %")],
)
def test_percent(share: float, shown: str) -> None:
    assert percent(share) == shown
