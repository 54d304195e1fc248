"""How many examples a verb reads has one name."""

import re

import pytest

from training.cli.main import main

READERS = ("show", "compare", "eval", "ablate", "calibrate", "report")


@pytest.mark.parametrize("verb", READERS)
def test_every_verb_that_reads_examples_says_examples(verb, capsys):
    assert main([verb, "--help"]) == 0
    flags = set(re.findall(r"--[a-z-]+", capsys.readouterr().out))
    assert "--examples" in flags and not flags & {"--num", "--num-examples", "--test-examples"}


@pytest.mark.parametrize("verb", READERS)
@pytest.mark.parametrize("given", [["--num", "5"], ["--num_examples=5"], ["--test-examples", "5"]])
def test_another_spelling_is_told_the_name(verb, given, capsys):
    assert main([verb, "runs/a", *given]) == 2
    said = capsys.readouterr().err
    assert given[0].partition("=")[0] in said and f"Write ponder {verb} --examples 5" in said


def test_a_training_has_two_numbers_and_both_are_told(capsys):
    assert main(["train", "parity", "--examples", "5"]) == 2
    said = capsys.readouterr().err
    assert "--eval-examples" in said and "--test-examples" in said and "another trainer" not in said
