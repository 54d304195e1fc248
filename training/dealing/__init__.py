"""Dealing: which sequences of an update go to which rank, so that no rank waits long for
another."""

from training.dealing.batch_balancer import BatchBalancer, RankBatches
from training.dealing.by_difficulty import ByDifficulty
from training.dealing.by_length import ByLength
from training.dealing.by_ponder import ByPonder
from training.dealing.deal import deal, in_order, slowest
from training.dealing.predictor import Predictor

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
