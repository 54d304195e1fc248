"""Amounts as people read them: three digits, and the prefix that they are of."""

import pytest

from training.console.amounts import (
    counted,
    in_bytes,
    in_ms,
    in_seconds,
    short_number,
    three_digits,
)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (9.81, "9.81"),
        (999, "999"),
        (999.4, "999"),
        (999.6, "1k"),
        (9800, "9.8k"),
        (999_499, "999k"),
        (999_600, "1M"),
        (1_234_567, "1.23M"),
        (5e18, "5E"),
    ],
)
def test_a_number_has_three_digits_and_a_prefix(value, text):
    assert short_number(value) == text


@pytest.mark.parametrize(("value", "text"), [(12, "12 B"), (1_234_567, "1.23 MB"), (2e9, "2 GB")])
def test_bytes_have_their_unit(value, text):
    assert in_bytes(value) == text


def test_a_noun_has_its_number():
    assert [counted(number, "rank") for number in (0, 1, 2)] == ["0 ranks", "1 rank", "2 ranks"]
    assert counted(2000, "sequence") == "2,000 sequences"


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.01234, "0.0123"), (26.82, "26.8"), (999.4, "999"), (999.6, "1,000"), (1120.3, "1,120")],
)
def test_three_digits_have_no_exponent_and_lose_none_before_the_point(value, text):
    assert three_digits(value) == text and in_ms(value / 1e3) == text


def test_a_duration_is_told_as_a_clock_does():
    told = [in_seconds(each) for each in (8.2, 59.6, 138, 3700)]
    assert told == ["8 s", "1:00 min", "2:18 min", "1:01:40 h"]
