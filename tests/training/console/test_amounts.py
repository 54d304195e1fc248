"""Amounts as people read them: three digits, and the prefix that they are of."""

import pytest

from training.console.amounts import counted, in_bytes, short_number


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
