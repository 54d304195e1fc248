"""Sequences that are read more than once, or were trained on: what they do to a guarantee."""

from training.exits.answers import Examples

_FEW = 0.01


def repeats_in_words(examples: Examples, trained: Examples) -> str | None:
    """A sentence on sequences that say the same as another of them, or as one that was trained on;
    None where they are less than a hundredth.

    Neither is wrong of itself: where little can be drawn, fresh draws come out alike. But a task
    that deals a finite set out in turn begins anew behind its end, and its repeats count as
    independent where they are not; and a task whose splits share their examples shows the model at
    its best.

    Args:
        examples: the sequences.
        trained: some that were trained on.
    """
    read = _said(examples)
    seen = set(_said(trained))
    alike = len(read) - len(set(read))
    known = sum(one in seen for one in read)
    if max(alike, known) <= _FEW * len(read):
        return None
    return (
        f"Of the {len(read)} sequences {alike} say the same as another one, and {known} are among "
        f"{len(seen)} that were trained on. The guarantee is about draws like these: it holds "
        "where each is drawn afresh from all that there are, and says nothing about sequences of "
        "another kind, or unseen ones."
    )


def _said(examples: Examples) -> list[bytes]:
    """What each sequence says, padding left out."""
    return [
        tokens[valid].tobytes()
        for batch in examples.batches
        for tokens, valid in zip(batch.tokens.numpy(), batch.valid.numpy(), strict=True)
    ]
