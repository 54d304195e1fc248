"""Which optimizer trains can be chosen, and a run goes on with it to the bit."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from small_runs import losses, small, train_only
from torch import nn

from halting import UsageError
from training.build import build_all
from training.checkpoints import checkpoint
from training.config.flags import parse
from training.config.sections import OptimizerConfig, Part
from training.engine import LocalEngine
from training.engine.cpu_adam_kernel import is_compiled, load_kernel
from training.engine.optimizer import build_optimizer, check_machine, groups_of
from training.optimizers import AdamW, CPUAdam
from training.optimizers.groups import parameter_groups
from training.optimizers.schedules import Schedule, WarmupConstant, WarmupCosine, WarmupStableDecay
from training.resources.dry_run import plan
from training.resources.optimizer_memory import state_per_element

OWN = '''
import torch


class Signs(torch.optim.Optimizer):
    """Steps by the gradient's sign, and counts them.

    Args:
        bend: what the first steps are multiplied by.
    """

    elementwise = True

    def __init__(self, params, lr=1e-3, weight_decay=0.0, bend: float = 1.0):
        super().__init__(params, {"lr": lr, "weight_decay": weight_decay, "bend": bend})

    @staticmethod
    def parameter_groups(model, groups):
        gate = {id(each) for each in model.recurrence.rule.parameters()}
        return [
            {**group, "params": [each], "lr_scale": 10.0 if id(each) in gate else 1.0}
            for group in groups
            for each in group["params"]
        ]

    @torch.no_grad()
    def step(self, closure=None):
        for group in self.param_groups:
            for each in group["params"]:
                state = self.state[each]
                state["count"] = state.get("count", 0) + 1
                state["note"] = None
                bend = group["bend"] if state["count"] < 4 else 1.0
                each.sub_(each.grad.sign() * group["lr"] * bend)
'''
KINDS = ("AdamW", "Muon", "Adafactor", "SGD")
CPU = torch.device("cpu")


@pytest.fixture
def own(tmp_path: Path) -> str:
    file = tmp_path / "signs.py"
    file.write_text(OWN)
    return f"{file}:Signs"


def resume_after(folder: Path, update: int) -> None:
    """Has a run stand at an earlier checkpoint."""
    for path in checkpoint.found(folder / "checkpoints"):
        if int(path.name.rpartition("-")[2]) > update:
            for file in path.iterdir():
                file.unlink()
            path.rmdir()


@pytest.mark.parametrize(
    "kind",
    [
        *KINDS,
        "own",
        pytest.param(
            "CPUAdam",
            marks=pytest.mark.skipif(not is_compiled(), reason="CPUAdam was never compiled here"),
        ),
    ],
)
def test_a_run_goes_on_to_the_bit(tmp_path, own, kind):
    chosen = own if kind == "own" else kind
    config = small(tmp_path / "runs", name="run", optimizer={"kind": chosen}, keep_last=9)
    assert train_only(config) == 0
    folder = tmp_path / "runs" / "run"
    whole = losses(folder)
    assert len(whole) == 12
    for update in (8, 0):
        resume_after(folder, update)
        assert train_only(config, folder) == 0
        assert losses(folder) == whole


def test_adamw_is_torchs_to_the_bit(tmp_path):
    config = small(tmp_path)
    ours, theirs = build_all(config), build_all(config)
    engine = LocalEngine(ours.model, config.optimizer, CPU)
    optimizer = torch.optim.AdamW(parameter_groups(theirs.model, 0.01), lr=3e-3, betas=(0.9, 0.95))
    for update in range(3):
        batch = ours.task.batch("train", 8 * update, 8)
        engine.backward(engine.forward(batch).logits.square().mean())
        engine.step(1e-2)
        theirs.model(batch.tokens, batch.valid).logits.square().mean().backward()
        torch.nn.utils.clip_grad_norm_(theirs.model.parameters(), 1.0)
        for group in optimizer.param_groups:
            group["lr"] = 1e-2
        optimizer.step()
        optimizer.zero_grad()
    mine = ours.model.state_dict()
    assert all(torch.equal(mine[name], each) for name, each in theirs.model.state_dict().items())


def test_muon_orthogonalises_the_matrices_of_the_loop_alone(tmp_path):
    config = small(tmp_path, optimizer={"kind": "Muon", "weight_decay": 0.0})
    built = build_all(config)
    looped = [each for each in built.model.recurrence.block.parameters() if each.dim() == 2]
    groups = groups_of(built.model, config.optimizer)
    chosen = [each for group in groups if group["muon"] for each in group["params"]]
    assert {id(each) for each in chosen} == {id(each) for each in looped}
    engine = LocalEngine(built.model, config.optimizer, CPU)
    before = [each.detach().clone() for each in looped]
    head = built.model.head.weight
    head_before = head.detach().clone()
    engine.backward(engine.forward(built.task.batch("train", 0, 8)).logits.square().sum())
    engine.step(0.1)
    for old, new in zip(before, looped, strict=True):
        change = (new.detach() - old) / (0.1 * 0.2 * max(old.shape) ** 0.5)
        values = torch.linalg.svdvals(change)
        assert 0.5 < values.median() < 1.3 and values.max() < 1.4  # all near 1: Newton-Schulz
    moved = (head.detach() - head_before).abs()
    assert moved.max() == pytest.approx(0.1, rel=1e-3)  # the first step of AdamW is the rate


def test_groups(tmp_path):
    model = build_all(small(tmp_path)).model
    decays, rest = parameter_groups(model, 0.3)
    assert (decays["weight_decay"], rest["weight_decay"]) == (0.3, 0.0)
    spared = {id(each) for each in rest["params"]}
    assert all(id(each) in spared for each in model.recurrence.rule.parameters())
    embeddings = [each for each in model.modules() if isinstance(each, nn.Embedding)]
    assert len(embeddings) == 2 and all(id(each.weight) in spared for each in embeddings)
    assert all(id(each) in spared for each in model.parameters() if each.dim() < 2)
    decays, _ = parameter_groups(model, 0.3, decay_embeddings=True)
    decaying = {id(each) for each in decays["params"]}
    assert all(id(each.weight) in decaying for each in embeddings)


def test_groups_and_rates_of_ones_own(tmp_path, own):
    model = build_all(small(tmp_path)).model
    config = OptimizerConfig(kind=own)
    engine = LocalEngine(model, config, CPU)
    gate = next(model.recurrence.rule.parameters())
    before, head = gate.detach().clone(), model.head.weight.detach().clone()
    (gate.sum() + model.head.weight.sum()).backward()
    for each in model.parameters():
        each.grad = torch.zeros_like(each) if each.grad is None else each.grad
    engine.step(1e-3)
    assert torch.allclose(before - gate, torch.tensor(1e-2))
    assert torch.allclose(head - model.head.weight, torch.tensor(1e-3), atol=1e-6)


def test_flags_choose_optimizer_and_schedule(tmp_path, own):
    recipe = small(tmp_path, optimizer={"learning_rate": 0.5, "options": {"beta1": 0.8}})
    kept = parse(recipe, ["--optimizer.beta2", "0.9"])
    assert kept.optimizer.options == {"beta1": 0.8, "beta2": 0.9}
    given = ["--optimizer.kind", own, "--optimizer.bend=3", "--schedule.kind=WarmupStableDecay"]
    chosen = parse(recipe, [*given, "--schedule.decay-share=0.5"])
    assert (chosen.optimizer.learning_rate, chosen.optimizer.options) == (0.5, {"bend": 3.0})
    assert chosen.schedule == Part(kind="WarmupStableDecay", options={"decay_share": 0.5})
    assert type(chosen).from_json(chosen.to_json()) == chosen


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"optimizer": {"options": {"beta2": 1.0}}}, "beta2 1.0"),
        (
            {"optimizer": {"kind": "Muon", "options": {"ns_steps": 5, "betas": 1}}},
            "no option betas",
        ),
        ({"optimizer": {"kind": "Adam"}}, "no optimizer of this name"),
        ({"optimizer": {"kind": "torch.optim:LBFGS"}}, "has no argument weight_decay"),
        ({"schedule": {"kind": "WarmupCosine", "options": {"warmup": -1}}}, "warmup -1"),
        ({"schedule": {"kind": "AdamW"}}, "no schedule of this name"),
    ],
)
def test_what_cannot_be_is_refused_before_a_folder_is_there(tmp_path, changed, says):
    with pytest.raises(UsageError, match=says):
        train_only(small(tmp_path, **changed))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kind", ["Muon", "Adafactor", "torch.optim:RMSprop"])
def test_whole_parameters_are_not_cut(tmp_path, kind):
    ds_config = tmp_path / "zero2.json"
    ds_config.write_text(json.dumps({"zero_optimization": {"stage": 2}}))
    config = small(tmp_path, optimizer={"kind": kind}, deepspeed_config=str(ds_config))
    with pytest.raises(UsageError, match=f"{kind} comes with ZeRO-2"):
        plan(config, 2)
    ds_config.write_text(json.dumps({"zero_optimization": {"stage": 0}}))
    assert plan(config, 2).own.sharing.stage == 0


def test_another_optimizer_does_not_go_on(tmp_path):
    config = small(tmp_path, name="run", updates=4)
    assert train_only(config) == 0
    other = small(tmp_path, name="run", updates=8, optimizer={"kind": "SGD"})
    with pytest.raises(UsageError, match="holds the state of AdamW, and this run trains with SGD"):
        train_only(other, tmp_path / "run")


def test_memory_counts_what_each_keeps(tmp_path):
    model = build_all(small(tmp_path)).model
    found = {kind: state_per_element(model, OptimizerConfig(kind=kind)) for kind in KINDS}
    assert (found["AdamW"], found["SGD"]) == (8.0, 4.0)
    assert 4.0 < found["Muon"] < 8.0 and found["Adafactor"] < 4.0
    for kind in ("AdamW", "SGD"):
        own = plan(small(tmp_path, optimizer={"kind": kind})).own
        assert own.optimizer == found[kind] * sum(each.numel() for each in model.parameters())


def test_cpu_adam_keeps_what_adamw_keeps_and_wants_its_weights_on_the_cpu(tmp_path):
    model = build_all(small(tmp_path)).model
    asked = OptimizerConfig(kind="CPUAdam")
    assert state_per_element(model, asked) == 8.0
    with pytest.raises(UsageError, match="on a cuda device, without offload"):
        check_machine(asked, torch.device("cuda"), {"zero_optimization": {"stage": 2}})
    check_machine(OptimizerConfig(), torch.device("cuda"), None)


def test_a_kernel_that_does_not_compile_is_told(tmp_path):
    """Anew in an empty folder, with a compiler that always fails; in a process of its own, as torch
    keeps in mind what it compiled."""
    code = "from training.engine.cpu_adam_kernel import load_kernel; load_kernel()"
    ended = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "TORCH_EXTENSIONS_DIR": str(tmp_path), "CXX": "false"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert "UsageError: --optimizer.kind CPUAdam: DeepSpeed's kernel could not be" in ended.stderr


@pytest.mark.skipif(not is_compiled(), reason="DeepSpeed's CPUAdam was never compiled here")
def test_cpu_adam_is_adamw(tmp_path):
    torch.manual_seed(0)
    shapes = [(5, 3), (7,), (64, 65)]
    weights = [[nn.Parameter(torch.ones(shape)) for shape in shapes] for _ in range(2)]
    groups = [
        [
            {"params": each[:1], "weight_decay": 0.1},
            {"params": each[1:], "weight_decay": 0.0},
        ]
        for each in weights
    ]
    optimizers = (AdamW(groups[0], lr=1e-2), CPUAdam(groups[1], lr=1e-2))
    optimizers[1].kernel = load_kernel()
    for _ in range(20):
        for theirs, ours in zip(*weights, strict=True):
            theirs.grad = torch.randn(theirs.shape)
            ours.grad = theirs.grad.clone()
        for optimizer in optimizers:
            optimizer.step()
    for theirs, ours in zip(*weights, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)
    assert [state["step"] for state in optimizers[1].state.values()] == [20, 20, 20]


def test_schedules_by_hand():
    stable = WarmupStableDecay(warmup=10, decay_share=0.25, final_fraction=0.2)
    told = [stable(update, 50) for update in (0, 4, 9, 10, 30, 40, 45, 50, 60)]
    assert told == pytest.approx([0.1, 0.5, 1.0, 1.0, 1.0, 1.0, 0.6, 0.2, 0.2])
    cosine: Schedule = WarmupCosine(warmup=2)
    assert cosine.rate(3e-3, 0, 12) == 3e-3 * 1 / 2
    assert cosine(7, 12) == pytest.approx(0.55) and cosine(12, 12) == pytest.approx(0.1)
    assert {WarmupConstant(0)(update, 9) for update in range(12)} == {1.0}


def test_a_default_config_builds_adamw(tmp_path):
    built = build_optimizer(build_all(small(tmp_path)).model, OptimizerConfig())
    assert type(built) is AdamW and built.defaults["betas"] == (0.9, 0.95)
