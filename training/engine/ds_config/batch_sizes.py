"""Batch, micro-batch and accumulation of a ds_config and of a run: which follow from which."""

from dataclasses import dataclass

from halting.errors import UsageError


@dataclass(frozen=True)
class Said:
    """A number, and who says it.

    Args:
        value: a whole number above 0.
        source: "--batch-size 32", or "ds.json: train_batch_size = 32".
    """

    value: int
    source: str


def solve(
    batch: Said | None, micro: Said | None, accumulation: Said | None, ranks: int, usual: int
) -> tuple[int | None, int | None]:
    """Batch and accumulation of the run by batch = micro-batch · accumulation · ranks; None where
    nothing says anything about it.

    Args:
        batch: of an update, over all ranks.
        micro: of one backward pass on one rank.
        accumulation: backward passes an update.
        ranks: how many there are.
        usual: the accumulation where a micro-batch stands alone.

    Raises:
        UsageError: where they do not fit together.
    """
    if micro is None:
        return batch and batch.value, accumulation and accumulation.value
    if batch is None:
        passes = accumulation.value if accumulation else usual
        return micro.value * passes * ranks, passes
    share = micro.value * ranks
    passes = accumulation.value if accumulation else max(1, batch.value // share)
    if share * passes != batch.value:
        others = f" x {accumulation.source}" if accumulation else ""
        raise UsageError(
            f"{batch.source}, but {micro.source}{others} over {ranks} rank{'s'[: ranks > 1]}.",
            "A batch is micro-batch x accumulation x ranks: "
            f"{micro.value} x {passes} x {ranks} = {share * passes}.",
            f'Write {share * passes} for the batch, or "auto" for the micro-batch.',
        )
    return batch.value, passes
