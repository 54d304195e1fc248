"""The laws as tests, for anybody's halting rule and block, and the executable specification that
they are held against."""

from act.testing.block_contract import BlockContract
from act.testing.contract import HaltingRuleContract
from act.testing.probes import TOLERANCE, FixedNoise, assert_close

__all__ = ["TOLERANCE", "BlockContract", "FixedNoise", "HaltingRuleContract", "assert_close"]
