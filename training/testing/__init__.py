"""What a task promises, as tests, for anybody's."""

from training.testing.task_contract import TaskContract

__all__ = ["TaskContract"]
