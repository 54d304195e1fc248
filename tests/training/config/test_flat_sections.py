"""Sections whose fields are flags without the section's name."""

import json

import pytest

from halting.errors import UsageError
from tests.training.echo_configs import run_config
from training.config.flat_sections import FLAT_SECTIONS, SECTION_OF
from training.config.record import FLAT_SECTION_NAMES
from training.config.run_config import RunConfig


def test_the_sections_are_those_that_flags_leave_out():
    assert tuple(FLAT_SECTIONS) == FLAT_SECTION_NAMES
    assert not SECTION_OF.keys() & RunConfig.model_fields.keys()
    assert len(SECTION_OF) == sum(len(cls.model_fields) for cls in FLAT_SECTIONS.values())


def test_a_field_may_be_given_by_its_own_name():
    config = run_config(eval_every=7, threads=2)
    assert (config.evaluation.eval_every, config.launch.threads) == (7, 2)
    assert config == run_config(evaluation={"eval_every": 7}, launch={"threads": 2})
    assert config == RunConfig.model_validate(
        {**run_config().model_dump(), "eval_every": 7, "threads": 2}
    )


def test_a_change_by_its_own_name_leaves_the_rest_of_its_section():
    config = run_config(eval_every=7, best_by="loss")
    for changed in (config.replace(map_every=3), config.model_copy(update={"map_every": 3})):
        assert changed == run_config(eval_every=7, best_by="loss", map_every=3)


def test_json_may_name_a_field_outside_its_section():
    config = run_config(eval_every=7, time_limit=2.0)
    values = json.loads(config.to_json())
    values |= {"eval_every": 9, "save_every": 11}
    again = RunConfig.from_json(json.dumps(values))
    assert again == config.replace(eval_every=9, save_every=11)


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"eval_every": 0}, "--eval-every is 0"),
        ({"evaluation": {"eval_every": 0}}, "--eval-every is 0"),
        ({"eval_evry": 3}, "Did you mean eval_every"),
        ({"saving": {"save_evry": 3}}, "Did you mean save_every"),
        ({"evaluation": 3}, "evaluation is 3"),
        ({"evaluation": 3, "eval_every": 5}, "evaluation is 3"),
    ],
)
def test_what_cannot_be_is_named_as_it_is_written(values, says):
    with pytest.raises(UsageError, match=says):
        run_config(**values)
