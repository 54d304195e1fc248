"""The laws as tests, for anybody's halting rule, and the executable specification that they are
held against."""

from act.testing.contract import HaltingRuleContract
from act.testing.probes import TOLERANCE, FixedNoise, assert_close

__all__ = ["TOLERANCE", "FixedNoise", "HaltingRuleContract", "assert_close"]
