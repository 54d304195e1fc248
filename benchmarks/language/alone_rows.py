"""Packed documents against each alone: logits, steps and gradients, in float64."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import product

import torch
from torch import Tensor
from torch.nn import functional as F

from act import LoopedTransformer, ModelOutput
from act.layers.ragged_attention import RaggedAttention
from act.segments import Segments
from benchmarks.harness.report import Figure, Table
from benchmarks.harness.rows import Row, Rows
from benchmarks.language.documents import Packed, pack
from halting import FixedSteps, GravesACT, HaltingRule

CODE = (
    "benchmarks/language/alone_rows.py",
    "benchmarks/language/documents.py",
    "benchmarks/harness",
    "act",
    "halting",
)
PATHS = ("dense", "packed", "ragged")
RULES = ("FixedSteps", "GravesACT")
TOLERANCE = 1e-10
VOCABULARY, WIDTH, LIMIT = 61, 32, 5
ROWS, LENGTH, MEAN = 3, 400, 60
QUICK = (2, 30, 10)


def measure(rows: Rows, quick: bool) -> list[Row]:
    """A row each of path, rule, and whether attention is cut at the bounds or masked; and of
    decoding."""
    sizes = QUICK if quick else (ROWS, LENGTH, MEAN)
    found = []
    for path, rule, bounds in product(PATHS, RULES, ("cut", "masked")):
        key = {"part": "alone", "path": path, "rule": rule, "bounds": bounds, "sizes": list(sizes)}
        row = rows.find(**key)
        found.append(row or rows.add({**key, **_parallel(path, rule, bounds, sizes)}))
    for rule in RULES:
        key = {"part": "alone", "path": "decoding", "rule": rule, "sizes": list(sizes)}
        row = rows.find(**key)
        found.append(row or rows.add({**key, **_decoded(rule, sizes)}))
    return found


def model_of(rule: str, attention: str = "padded") -> LoopedTransformer:
    """Prelude and coda, grouped heads, two layers in the loop; tokens leave at various steps."""
    torch.manual_seed(0)
    decides: HaltingRule = FixedSteps()
    if rule == "GravesACT":
        decides = GravesACT(WIDTH, bias_init=-0.5)
    model = LoopedTransformer(
        VOCABULARY,
        WIDTH,
        4,
        decides,
        max_steps=LIMIT,
        num_kv_heads=2,
        num_layers=2,
        prelude_layers=1,
        coda_layers=1,
        causal=True,
        attention=attention,  # pyright: ignore[reportArgumentType]
    )
    if isinstance(decides, GravesACT):
        torch.nn.init.normal_(decides.gate.weight, std=0.3)
    return model.double()


def _masked(self: RaggedAttention, queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    """What the ragged kernel's block mask says, as a dense one. On a CPU the kernel has no backward
    pass."""
    rows = torch.arange(len(queries))
    columns = torch.arange(len(keys))
    mask = self.block_mask.mask_mod(rows, rows, rows[:, None], columns)
    shared = keys.shape[1] != queries.shape[1]
    laid = (each.transpose(0, 1)[None] for each in (queries, keys, values))
    answer = F.scaled_dot_product_attention(*laid, attn_mask=mask, enable_gqa=shared)
    return answer[0].transpose(0, 1)


@contextmanager
def _attending(path: str, bounds: str) -> Iterator[None]:
    """Ragged attention on a CPU; bounds that are cut wherever they can be, or nowhere."""
    kept = (RaggedAttention.devices, RaggedAttention._block_masked, Segments.devices)
    always = Segments.always
    if path == "ragged":
        RaggedAttention.devices = ("cpu", "cuda")
        RaggedAttention._block_masked = _masked
    Segments.always = bounds == "cut"
    Segments.devices = ("cpu",) if bounds == "cut" else ()
    try:
        yield
    finally:
        RaggedAttention.devices, RaggedAttention._block_masked, Segments.devices = kept
        Segments.always = always


def _parallel(path: str, rule: str, bounds: str, sizes: tuple[int, int, int]) -> Row:
    packed = pack(*sizes, VOCABULARY)
    model = model_of(rule, "ragged" if path == "ragged" else "padded")
    model.recurrence.path = "dense" if path == "dense" else "packed"
    with _attending(path, bounds):
        together = model(packed.tokens, documents=packed.documents)
        gradient = torch.autograd.grad(_loss(together.logits), list(model.parameters()))
    documents = packed.alone()
    alone, total = _each_alone(rule, [tokens for _, _, tokens in documents])
    apart = 0.0
    unequal = 0
    for (row, place, _), output in zip(documents, alone, strict=True):
        apart = max(apart, _apart(together.logits[row, place], output.logits[0]))
        unequal += int((together.trace.steps[row, place] != output.trace.steps[0]).sum())
    return {
        "documents": len(documents),
        "mean_steps": round(float(together.trace.steps.double().mean()), 3),
        "logits": apart,
        "gradients": max(map(_apart, gradient, total)),
        "unequal_steps": unequal,
    }


def _each_alone(rule: str, documents: list[Tensor]) -> tuple[list[ModelOutput], list[Tensor]]:
    """What a model says of each, and the gradients of all together."""
    model = model_of(rule)
    found = [model(tokens) for tokens in documents]
    loss = torch.stack([_loss(each.logits) for each in found]).sum()
    return found, list(torch.autograd.grad(loss, list(model.parameters())))


@torch.no_grad()
def _decoded(rule: str, sizes: tuple[int, int, int]) -> Row:
    """The first half of each row at once, the rest token by token, against each document alone in
    one pass."""
    packed = pack(*sizes, VOCABULARY)
    model = model_of(rule).eval()
    batch, length = packed.tokens.shape
    caches = model.decoding_caches(batch, length)
    visible = caches.loop.visible
    assert visible is not None
    logits = []
    steps = []
    ends = [length // 2, *range(length // 2 + 1, length + 1)]
    for begin, end in zip([0, *ends], ends, strict=False):
        visible[:, begin:end] = True
        made = model(
            packed.tokens[:, begin:end],
            caches=caches,
            positions=torch.arange(begin, end).expand(batch, -1),
            documents=packed.documents,
        )
        logits.append(made.logits)
        steps.append(made.trace.steps)
    return _decoding_against_alone(model, packed, torch.cat(logits, 1), torch.cat(steps, 1))


def _decoding_against_alone(
    model: LoopedTransformer, packed: Packed, logits: Tensor, steps: Tensor
) -> Row:
    apart = 0.0
    unequal = 0
    documents = packed.alone()
    for row, place, tokens in documents:
        alone = model(tokens)
        apart = max(apart, _apart(logits[row, place], alone.logits[0]))
        unequal += int((steps[row, place] != alone.trace.steps[0]).sum())
    return {
        "documents": len(documents),
        "mean_steps": round(float(steps.double().mean()), 3),
        "logits": apart,
        "unequal_steps": unequal,
    }


def _loss(logits: Tensor) -> Tensor:
    """Of a token's own logits alone."""
    return logits.log_softmax(-1)[..., 0].sum() / 100


def _apart(one: Tensor, other: Tensor) -> float:
    return float((one - other).detach().abs().max())


def table(rows: Sequence[Row]) -> Table:
    """A line a row."""
    head = ("path", "bounds", "rule", "mean steps", "logits", "gradients", "other steps")
    lines = [
        (
            str(row["path"]),
            str(row.get("bounds", "cached")),
            str(row["rule"]),
            f"{row['mean_steps']:.2f}",
            f"{row['logits']:.1e}",
            f"{row['gradients']:.1e}" if "gradients" in row else "–",
            str(row["unequal_steps"]),
        )
        for row in rows
    ]
    return head, lines


def against_targets(rows: Sequence[Row]) -> list[Figure]:
    """The worst logit and gradient, and tokens with another number of steps."""
    figures = []
    for what in ("logits", "gradients"):
        worst = max(row[what] for row in rows if what in row)
        figures.append(
            Figure(
                f"packed documents against each alone: {what}",
                worst,
                f"≤ {TOLERANCE:g}",
                worst <= TOLERANCE,
            )
        )
    unequal = sum(row["unequal_steps"] for row in rows)
    name = "packed documents against each alone: tokens of other steps"
    return [*figures, Figure(name, unequal, "= 0", unequal == 0)]
