"""Where the bits of a text go: figures equal those of a plain loop over its targets."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from small_runs import small
from token_folders import folder_of, texts

from act.models.looped_model import ModelOutput
from halting import LoopTrace
from halting.maps.estimate import ratio
from training import fit
from training.cli.evaluate import main
from training.evaluation.text_losses import TextLosses, places
from training.objectives.outcomes import token_losses
from training.tasks import IGNORE, PointerChase, Tokens

SIZE = 24


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    documents = texts(300, most=12)
    return str(folder_of(tmp_path_factory.mktemp("tokens") / "tokens", documents))


def output_of(batch, vocabulary: int, seed: int) -> ModelOutput:
    draw = torch.Generator().manual_seed(seed)
    steps = torch.where(batch.valid, torch.randint(1, 4, batch.tokens.shape, generator=draw), 0)
    logits = torch.randn(*batch.tokens.shape, vocabulary, generator=draw)
    return ModelOutput(
        logits, LoopTrace(logits[..., :3], logits[..., :3], steps, batch.valid, {}), None
    )


def losses_of(task: Tokens) -> tuple[TextLosses, list[tuple]]:
    """Two batches, and each target of them: nats, bytes, document, place, token, steps."""
    found = TextLosses(task, "validation")
    rows = []
    for first in (0, SIZE):
        batch = task.batch("validation", first, SIZE)
        output = output_of(batch, task.vocab_size, first)
        found.add(output, batch, first)
        nats = token_losses(output.logits, batch.targets)
        numbers = task.document_numbers("validation", first, SIZE)
        for row in range(SIZE):
            seen = 0
            for place in range(task.length):
                target = int(batch.targets[row, place])
                if int(batch.tokens[row, place]) == task.tokenizer.mark:
                    seen = 0
                if target != IGNORE:
                    document = int(numbers[row, place])
                    length = 0 if target == task.tokenizer.mark else 1
                    steps = int(output.trace.steps[row, place])
                    rows.append((float(nats[row, place]), length, document, seen, target, steps))
                seen += 1
    return found, rows


@pytest.mark.parametrize("pack", ["on", "off"])
def test_figures_are_those_of_a_plain_loop(folder: str, pack: str):
    found, rows = losses_of(Tokens((folder,), length=16, pack=pack))  # pyright: ignore[reportArgumentType]
    whole = found.whole()
    assert whole is not None and whole.targets == len(rows)
    bits = sum(row[0] for row in rows) / math.log(2)
    assert whole.bits_per_byte.value == pytest.approx(bits / sum(row[1] for row in rows))
    by_document = {}
    for nats, length, document, *_ in rows:
        before = by_document.get(document, (0.0, 0))
        by_document[document] = (before[0] + nats / math.log(2), before[1] + length)
    above, below = (np.array(each) for each in zip(*by_document.values(), strict=True))
    wanted = ratio(above[below > 0], below[below > 0])
    shift = above[below == 0].sum() / below.sum()
    assert whole.bits_per_byte.low is not None and wanted.low is not None
    # The draws go by the order of the documents: another order, another interval, but hardly.
    width = whole.bits_per_byte.high - whole.bits_per_byte.low  # pyright: ignore[reportOptionalOperand]
    assert whole.bits_per_byte.low == pytest.approx(wanted.low + shift, abs=width / 10)
    assert found.by_document()["documents"] == (below > 0).sum()
    ends = [row for row in rows if row[1] == 0]
    assert ends, "the mark is asked for"
    (told,) = [row for row in found.by_type() if row.name == "ends of documents"]
    assert told.targets == len(ends) and told.bits_per_byte.value is None
    assert told.bits == pytest.approx(sum(row[0] for row in ends) / len(ends) / math.log(2))
    near = [row for row in rows if 4 <= row[3] <= 7]
    (told,) = [row for row in found.by_position() if row.name == "4 to 7"]
    assert told.targets == len(near)
    assert told.steps == pytest.approx(sum(row[5] for row in near) / len(near))
    for groups in (found.by_position(), found.by_type()):
        assert sum(row.targets for row in groups) == len(rows)


def test_documents_keep_their_number_wherever_their_rows_are(folder: str):
    task = Tokens((folder, folder), length=16)
    tokens = task._folders[0].split("validation").tokens
    numbers = task.document_numbers("validation", 0, 40)
    batch = task.batch("validation", 0, 40)
    starts = task._folders[0].split("validation").starts
    documents = len(starts) - 1
    texts_of = {}
    for number, row in zip(
        numbers.flatten().tolist(), batch.tokens.flatten().tolist(), strict=True
    ):
        texts_of.setdefault(number, []).append(row)
    for number, found in texts_of.items():
        own = number % documents
        whole = tokens[int(starts[own]) : int(starts[own + 1])].tolist()
        if number != 0:  # which padding has, too
            assert all(token in whole for token in found)
    assert max(texts_of) >= documents, "the second folder's are others"
    assert batch.documents is not None
    same = (batch.documents[:, 1:] == batch.documents[:, :-1]) & batch.valid[:, 1:]
    assert bool(
        (
            (numbers[:, 1:] == numbers[:, :-1]) | ~batch.valid[:, 1:] == same | ~batch.valid[:, 1:]
        ).all()
    )


def test_places_begin_anew_with_each_document():
    batch = PointerChase(length=4).batch("test", 0, 2)
    assert places(batch)[1].tolist() == list(range(batch.targets.shape[1]))


def test_answers_that_are_no_text_have_no_figures():
    task = PointerChase(length=4)
    found = TextLosses(task, "test")
    batch = task.batch("test", 0, 2)
    found.add(output_of(batch, task.vocab_size, 0), batch, 0)
    assert found.over_ranks().figures() == {} and found.by_document() == {}


def test_a_run_and_ponder_eval_tell_them(tmp_path: Path, folder: str, capsys):
    options = {"folder": [folder], "length": 16}
    run = fit(small(tmp_path, data={"kind": "Tokens", "options": options}, updates=2)).folder
    summary = json.loads((run / "summary.json").read_text())
    told = summary["text"]["all"]["bits_per_byte"]
    assert told["value"] == pytest.approx(summary["bits_per_byte"])
    assert told["low"] < told["value"] < told["high"]
    page = (run / "report.md").read_text()
    assert "kind of target" in page and "## Loss by step" in page and "8 to 15" in page
    out = tmp_path / "eval.json"
    assert main([str(run), "--by", "position", "--json", str(out)]) == 0
    said = capsys.readouterr().out
    assert "the interval of 95 % over" in said and "8 to 15" in said
    (row,) = json.loads(out.read_text())
    assert row["text"]["all"]["bits_per_byte"]["value"] == pytest.approx(summary["bits_per_byte"])
