"""Rows of tokens: every one once an epoch, no document's end predicts another's beginning, equal
for any ranks; and what cannot be read is refused."""

import copy
import json
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from small_runs import small
from token_folders import folder_of, texts

from act import LoopedTransformer
from halting import GravesACT, UsageError
from training import fit, load_run
from training.config.absolute_paths import with_absolute_paths
from training.config.run_config import RunConfig
from training.engine.model_inputs import extra_inputs
from training.objectives.outcomes import token_losses
from training.recipes.load import load_recipe
from training.tasks import IGNORE, SPLITS, Batch, Tokens
from training.tasks.kept_data import KeptData


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return folder_of(tmp_path / "tokens", texts(150))


def rows_of(task: Tokens, split: str) -> int:
    return int(task._mixture(split).sizes.sum())


def epoch(task: Tokens, split: str, number: int, calls: list[tuple[int, int]]) -> Batch:
    """All rows of an epoch, asked for in these calls of (first, how many)."""
    rows = rows_of(task, split)
    return Batch.stack([task.batch(split, number * rows + first, size) for first, size in calls])


def asked_for(batch: Batch) -> Counter[tuple[int, int]]:
    """How often each pair of a token and the next was asked for."""
    asked = batch.has_target
    return Counter(zip(batch.tokens[asked].tolist(), batch.targets[asked].tolist(), strict=True))


@pytest.mark.parametrize("length", [2, 7, 24, 100, 5000])
@pytest.mark.parametrize("split", SPLITS)
def test_every_token_is_asked_for_once_an_epoch(folder: Path, split: str, length: int):
    task = Tokens((str(folder),), length=length, seed=4)
    tokens = task._folders[0].split(split).tokens.tolist()
    wanted = Counter(zip(tokens, [*tokens[1:], tokens[0]], strict=True))
    rows = rows_of(task, split)
    for number in (0, 1, 7):
        batch = epoch(task, split, number, [(0, rows)])
        assert asked_for(batch) == wanted
        assert int(batch.valid.sum()) == len(tokens)
        assert bool((batch.valid == batch.has_target).all())


def test_ranks_and_accumulation_share_out_the_same_rows(folder: Path):
    task = Tokens((str(folder),), length=16, seed=1)
    rows = rows_of(task, "train")
    whole = epoch(task, "train", 1, [(0, rows)])
    for size in (1, 3, 8):
        calls = [(first, min(size, rows - first)) for first in range(0, rows, size)]
        parts = [epoch(task, "train", 1, calls[rank::3]) for rank in range(3)]
        again = epoch(task, "train", 1, calls)
        assert torch.equal(again.tokens, whole.tokens)
        assert sum((asked_for(part) for part in parts), Counter()) == asked_for(whole)


def test_documents_are_told_apart_and_end_with_the_mark(folder: Path):
    """A mark begins its document, predicts its first token, and is what the last one before it
    predicts."""
    task = Tokens((str(folder),), length=200)
    for split in SPLITS:
        batch = task.batch(split, 0, 12)
        assert batch.documents is not None
        for row in range(12):
            valid = batch.valid[row]
            tokens = batch.tokens[row][valid]
            targets = batch.targets[row][valid]
            documents = batch.documents[row][valid]
            begins = tokens == task.tokenizer.mark
            assert torch.equal(targets[:-1], tokens[1:])
            assert torch.equal(documents[1:] != documents[:-1], begins[1:])
            assert torch.equal(documents.diff(), begins[1:].long())
        assert bool((batch.targets[~batch.valid] == IGNORE).all())


def test_packed_documents_are_to_a_model_as_each_alone(folder: Path):
    """Losses, steps and gradients, in float64."""
    task = Tokens((str(folder),), length=300)
    torch.manual_seed(0)
    model = LoopedTransformer(
        256, 16, 2, GravesACT(16), max_steps=3, prelude_layers=1, coda_layers=1, causal=True
    ).double()
    row = task.batch("train", 0, 1)
    assert row.documents is not None and int(row.documents.max()) >= 2

    def losses(batch: Batch) -> tuple[torch.Tensor, torch.Tensor, list[torch.Tensor]]:
        output = model(batch.tokens, batch.valid, **extra_inputs(model, batch))
        found = token_losses(output.logits, batch.targets)
        gradients = torch.autograd.grad(found.sum(), list(model.parameters()))
        return found[batch.valid], output.trace.steps[batch.valid], list(gradients)

    packed, steps, gradients = losses(row)
    alone = []
    for number in row.documents.unique().tolist():
        own = (row.documents == number) & row.valid
        alone.append(
            losses(
                Batch(
                    row.tokens[own][None],
                    row.targets[own][None],
                    row.valid[own][None],
                    row.difficulty[own][None],
                )
            )
        )
    torch.testing.assert_close(packed, torch.cat([each[0] for each in alone]), rtol=0, atol=1e-10)
    assert torch.equal(steps, torch.cat([each[1] for each in alone]))
    for number, whole in enumerate(gradients):
        parts = sum(each[2][number] for each in alone)
        torch.testing.assert_close(whole, parts, rtol=0, atol=1e-10)


def test_epochs_cut_rows_elsewhere_and_seeds_order_them_otherwise(folder: Path):
    rows = rows_of(Tokens((str(folder),), length=32), "train")

    def shown(seed: int, number: int, split: str = "train") -> set[tuple[int, ...]]:
        task = Tokens((str(folder),), length=32, seed=seed)
        return {tuple(row) for row in epoch(task, split, number, [(0, rows)]).tokens.tolist()}

    assert len(shown(0, 0) & shown(0, 1)) < rows // 8
    assert len(shown(0, 0) & shown(1, 0)) < rows // 8
    for split in ("validation", "test"):
        few = rows_of(Tokens((str(folder),), length=32), split)
        first, other = (Tokens((str(folder),), length=32, seed=seed) for seed in (0, 1))
        assert torch.equal(first.batch(split, 0, few).tokens, other.batch(split, 0, few).tokens)


@pytest.mark.parametrize("length", [4, 30, 1000])
def test_unpacked_rows_are_documents_from_their_beginning(folder: Path, length: int):
    task = Tokens((str(folder),), length=length, pack="off")
    tokens = task._folders[0].split("train")
    rows = rows_of(task, "train")
    assert rows == len(tokens.bytes)
    batch = epoch(task, "train", 2, [(0, rows)])
    assert batch.documents is None
    found = {
        tuple(row[valid].tolist()) for row, valid in zip(batch.tokens, batch.valid, strict=True)
    }
    wanted = {
        tuple(tokens.tokens[begin : min(end, begin + length)].tolist())
        for begin, end in zip(tokens.starts[:-1].tolist(), tokens.starts[1:].tolist(), strict=True)
    }
    assert found == wanted
    for row in range(rows):
        inside = batch.tokens[row][batch.valid[row]]
        targets = batch.targets[row][batch.valid[row]]
        assert torch.equal(targets[:-1], inside[1:])
        whole = len(inside) < length
        assert not whole or targets[-1] == task.tokenizer.mark
    assert bool(task.warnings()) == (length < 1000)


@pytest.mark.parametrize("tokenizer", ["bytes", "bpe:300"])
@pytest.mark.parametrize("pack", ["on", "off"])
def test_target_bytes_add_up_to_the_texts(tmp_path: Path, tokenizer: str, pack: str):
    folder = folder_of(tmp_path / "tokens", texts(150), tokenizer=tokenizer)
    task = Tokens((str(folder),), length=2000, pack=pack)  # pyright: ignore[reportArgumentType]
    for split in SPLITS:
        batch = epoch(task, split, 0, [(0, rows_of(task, split))])
        size = task.target_bytes(split, batch.targets)
        assert size.shape == batch.targets.shape
        assert int(size.sum()) == task._folders[0].manifest.split(split).bytes
        assert float(size[~batch.has_target].sum()) == 0.0


def test_a_tokenizer_whose_tokens_have_no_bytes_gets_the_mean(tmp_path: Path):
    tokenizers = pytest.importorskip("tokenizers")
    model = tokenizers.models.WordLevel({"[UNK]": 0, "so": 1, "long": 2}, unk_token="[UNK]")
    words = tokenizers.Tokenizer(model)
    words.pre_tokenizer = tokenizers.pre_tokenizers.WhitespaceSplit()
    (tmp_path / "words.json").write_text(words.to_str())
    path = str(tmp_path / "words.json")
    folder = folder_of(tmp_path / "tokens", texts(150), tokenizer=path)
    task = Tokens((str(folder),), length=10)
    assert not task._folders[0].manifest.has_exact_bytes
    assert (task.tokenizer.mark, task.vocab_size) == (3, 4)
    batch = epoch(task, "test", 0, [(0, rows_of(task, "test"))])
    size = float(task.target_bytes("test", batch.targets).sum())
    assert size == pytest.approx(task._folders[0].manifest.split("test").bytes)
    assert task.decode([3, 1, 0]) == ["<end>", "so", "[UNK]"]


@pytest.mark.parametrize("tokenizer", ["bytes", "bpe:300"])
def test_a_typed_text_comes_back(tmp_path: Path, tokenizer: str):
    folder = folder_of(tmp_path / "tokens", texts(150), tokenizer=tokenizer)
    task = Tokens((str(folder),))
    tokens = task.encode("so long,\n\tnaïve <|endoftext|>")
    assert tokens[0] == task.tokenizer.mark and task.tokenizer.mark not in tokens[1:]
    data = b"".join(task.tokenizer.bytes_of(token) or b"" for token in tokens)
    assert data.decode() == "so long,\n\tnaïve <|endoftext|>"
    shown = task.decode(tokens)
    assert len(shown) == len(tokens) and shown[0] == "<end>"
    assert task.decode([task.encode("\x07")[-1]]) == [r"\x07"]
    with pytest.raises(UsageError, match="surrogate pair"):
        task.encode("\ud800")


def test_mixtures_read_each_folder_by_its_weight(tmp_path: Path):
    first = folder_of(tmp_path / "a", texts(100))
    second = folder_of(tmp_path / "b", [text.upper() for text in texts(300, seed=1)])
    task = Tokens((str(first), str(second)), weights=(3, 1), length=40)
    assert (
        int((task._mixture("train").places(np.arange(4096, dtype=np.uint64)).source == 0).sum())
        == 3072
    )
    assert rows_of(task, "validation") == sum(
        -(-each.manifest.split("validation").tokens // 40) for each in task._folders
    )
    batch = task.batch("train", 0, 64)
    one = Batch.stack([task.batch("train", number, 1) for number in range(64)])
    assert torch.equal(batch.tokens, one.tokens)


def test_folders_that_do_not_fit_are_refused(tmp_path: Path, folder: Path):
    name = str(folder)
    other = folder_of(tmp_path / "bpe", texts(100, seed=1), tokenizer="bpe:300")
    (tmp_path / "empty").mkdir()
    (tmp_path / "begun").mkdir()
    (tmp_path / "begun.unfinished").mkdir()
    cases = (
        ({}, "There is no --data.folder.*ponder data prepare"),
        ({"folder": (f"{name}-not",)}, "is not a folder"),
        ({"folder": (str(tmp_path / "empty"),)}, "holds no tokens"),
        ({"folder": (str(tmp_path / "begun"),)}, "is not finished"),
        ({"folder": (name, str(other))}, "another tokenizer.*--tokenizer bytes"),
        ({"folder": (str(other), name)}, r"another tokenizer.*bpe/tokenizer.json"),
        ({"folder": (name,), "weights": (1.0, 2.0)}, "2 numbers for 1 folder"),
        ({"folder": (name,), "weights": (0.0,)}, "--data.weights 0.0"),
        ({"folder": (name,), "length": 1}, "--data.length is 1"),
    )
    for options, match in cases:
        with pytest.raises(UsageError, match=match):
            Tokens(**options)


def test_damaged_folders_are_refused(tmp_path: Path, folder: Path):
    def damaged(change: object) -> Path:
        copied = tmp_path / "copy"
        shutil.rmtree(copied, ignore_errors=True)
        shutil.copytree(folder, copied)
        change(copied)  # pyright: ignore[reportCallIssue]
        return copied

    def values(copied: Path, **changes: object) -> None:
        path = copied / "manifest.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | changes))

    cases = (
        (lambda copied: (copied / "train.tokens").write_bytes(b"ab"), "train.tokens has 2 bytes"),
        (lambda copied: (copied / "test.starts").unlink(), "test.starts is not there"),
        (lambda copied: values(copied, format=2), "is of format 2"),
        (lambda copied: values(copied, mark=7), "is damaged"),
        (lambda copied: (copied / "manifest.json").write_text("{}"), "is damaged"),
        (lambda copied: (copied / "manifest.json").write_text("{"), "is not JSON"),
    )
    for change, match in cases:
        with pytest.raises(UsageError, match=match):
            Tokens((str(damaged(change)),))


def test_a_copied_task_maps_files_and_holds_none(folder: Path):
    task = Tokens((str(folder),), length=16)
    task.batch("train", 0, 2)
    copied = copy.deepcopy(task)
    assert copied._folders[0]._splits == {}
    assert torch.equal(copied.batch("train", 3, 2).tokens, task.batch("train", 3, 2).tokens)


def test_a_run_knows_its_folder_again(tmp_path: Path, folder: Path):
    task = Tokens((str(folder),))
    kept = KeptData("runs/a", "Tokens", task.identity(), task.vocabulary())
    moved = folder.with_name("moved")
    folder.rename(moved)
    assert Tokens((str(folder),), kept_data=kept).encode("so") == task.encode("so")
    again = Tokens((str(moved),), kept_data=kept)
    assert torch.equal(again.batch("test", 0, 1).valid, again.batch("test", 0, 1).valid)
    folder_of(folder, texts(151))
    with pytest.raises(UsageError, match="has changed"):
        Tokens((str(folder),), kept_data=kept).batch("test", 0, 1)


def test_a_config_holds_absolute_folders(folder: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(folder.parent)
    data = {"kind": "Tokens", "options": {"folder": ["tokens"]}}
    config = RunConfig.model_validate({"recipe": "lm", "data": data})
    assert with_absolute_paths(config).data.options["folder"] == [str(folder)]


@pytest.mark.parametrize("pack", ["on", "off"])
def test_a_small_run_learns_and_tells_bits_a_byte(tmp_path: Path, folder: Path, pack: str):
    options = {"folder": [str(folder)], "length": 32, "pack": pack}
    config = small(tmp_path, data={"kind": "Tokens", "options": options}, updates=6)
    run = load_run(fit(config).folder)
    summary = json.loads((run.folder / "summary.json").read_text())
    assert summary["bits_per_byte"] > summary["bits"]  # marks cost bits, and are no bytes
    assert "bits a byte" in (run.folder / "report.md").read_text()
    run.ponder_map("so long")


def test_the_recipe_asks_for_a_folder():
    config = load_recipe("lm")
    assert config.data.kind == "Tokens"
    with pytest.raises(UsageError, match="ponder data prepare"):
        Tokens(**config.data.options)
