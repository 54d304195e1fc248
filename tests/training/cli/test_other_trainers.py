"""Flags of other trainers are taken, or told by the name that they have here."""

import re

import pytest

from halting import UsageError
from halting.errors import UsageErrors
from training.cli.other_trainers import _MEANT, check_other_trainers, with_deepspeed_flag
from training.config.flags import parse
from training.recipes.load import load_recipe


@pytest.mark.parametrize(
    ("words", "read"),
    [
        ("parity --deepspeed ds.json --seed 1", "parity --seed 1 --deepspeed-config ds.json"),
        ("parity --deepspeed=ds.json", "parity --deepspeed-config ds.json"),
        ("parity --deepspeed", "parity"),
        ("parity --deepspeed --seed 1", "parity --seed 1"),
        ("--deepspeed parity --seed 1", "parity --seed 1"),
        ("parity --deepspeed --deepspeed_config ds.json", "parity --deepspeed_config ds.json"),
    ],
)
def test_deepspeeds_own_flag(words, read):
    assert with_deepspeed_flag(words.split()) == read.split()


def test_two_files_for_deepspeed_are_refused():
    with pytest.raises(UsageError, match=r"--deepspeed a.json comes with --deepspeed-config"):
        with_deepspeed_flag(["parity", "--deepspeed", "a.json", "--deepspeed_config=b.json"])


def test_flags_of_other_trainers_are_told_all_at_once():
    words = ["--per_device_train_batch_size=8", "--learning-rate", "1e-3", "--bf16", "--seed", "1"]
    with pytest.raises(UsageErrors) as refused:
        check_other_trainers(words)
    assert [each.what for each in refused.value.errors] == [
        "There is no flag --per_device_train_batch_size.",
        "There is no flag --learning-rate.",
        "There is no flag --bf16.",
    ]
    assert refused.value.errors[1].write == "Did you mean --optimizer.learning-rate?"


def test_what_is_meant_is_a_flag_and_what_is_refused_is_none(capsys):
    with pytest.raises(SystemExit):
        parse(load_recipe("bytes"), ["--help"])
    known = set(re.findall(r"--[a-z][a-z.-]*[a-z]", capsys.readouterr().out))
    launchers = {"--resume"}
    for name, meant in _MEANT.items():
        assert f"--{name.replace('_', '-')}" not in known, name
        ours = set(re.findall(r"(?<!torchrun )(?<!deepspeed )--[a-z][a-z.-]*[a-z]", meant))
        assert ours - {"--module"} <= known | launchers, name
