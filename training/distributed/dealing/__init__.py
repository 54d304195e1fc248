"""Dealing: which sequences of an update go to which rank, so that no rank waits long for
another."""

from training.distributed.dealing.batch_balancer import BatchBalancer, RankBatches
from training.distributed.dealing.by_difficulty import ByDifficulty
from training.distributed.dealing.by_length import ByLength
from training.distributed.dealing.by_ponder import ByPonder
from training.distributed.dealing.deal import deal, in_order, slowest
from training.distributed.dealing.predictor import Predictor

__all__ = [
    "BatchBalancer",
    "ByDifficulty",
    "ByLength",
    "ByPonder",
    "Predictor",
    "RankBatches",
    "deal",
    "in_order",
    "slowest",
]
