"""What is minimised can be chosen: smoothed targets, a teacher's answers, an objective of one's
own."""

import math
from pathlib import Path

import pytest
import torch
from small_runs import losses, small, train_only

from halting import UsageError
from training.build import build_all
from training.config.flags import parse
from training.objectives import CrossEntropy, Distillation
from training.runs.loaded import load_run
from training.tasks.task import IGNORE, Batch

OWN = '''
from training.objectives import Objective
from training.objectives.outcomes import token_losses


class Twice(Objective):
    """Twice the cross entropy, or another multiple.

    Args:
        factor: by which it is multiplied.
    """

    def __init__(self, factor: float = 2.0):
        self.factor = factor

    def losses(self, logits, targets, batch, index):
        return self.factor * token_losses(logits, targets)
'''
CHOICE = {"kind": "GravesACT"}
EVERY_STEP = {"kind": "PonderNet"}


def log_softmax(logits: list[float], temperature: float = 1.0) -> list[float]:
    scaled = [logit / temperature for logit in logits]
    norm = math.log(math.fsum(math.exp(each) for each in scaled))
    return [each - norm for each in scaled]


def test_smoothed_cross_entropy_by_hand():
    torch.manual_seed(0)
    logits = torch.randn(5, 4, dtype=torch.float64)
    targets = torch.tensor([0, 3, IGNORE, 1, 2])
    one = targets.unsqueeze(0)
    batch = Batch(one, one, one != IGNORE, torch.zeros(1, 5))
    found = CrossEntropy(label_smoothing=0.2).losses(logits, targets, batch, torch.arange(5))
    for row, (said, target) in enumerate(zip(logits.tolist(), targets.tolist(), strict=True)):
        known = log_softmax(said)
        own = -0.8 * known[target] - 0.2 / 4 * math.fsum(known) if target != IGNORE else 0.0
        assert float(found[row]) == pytest.approx(own, rel=1e-12, abs=1e-12)


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("teachers")
    assert train_only(small(folder, name="teacher")) == 0
    return folder / "teacher"


@pytest.mark.parametrize("halting", [CHOICE, EVERY_STEP], ids=["final", "every_step"])
def test_distillation_by_hand(tmp_path, teacher, halting):
    """Every step's answer learns from the teacher's last one, whatever the readout weighs."""
    options = {"teacher": str(teacher), "weight": 0.3, "temperature": 2.0}
    config = small(
        tmp_path,
        halting=halting,
        objective={"kind": "Distillation", "options": options},
        penalty={"value": 0.01},
    )
    built = build_all(config)
    built.objective.prepare(built.task, load_run)
    batch = built.task.batch("train", 0, 3)
    output = built.model(batch.tokens, batch.valid)
    found = float(built.objective(output, batch, None).task)
    taught = load_run(teacher).forward(batch).logits
    total = 0.0
    rows, length = batch.targets.shape
    steps = output.step_logits
    by_step = output.trace.mass if output.step_weights is None else output.step_weights
    for row in range(rows):
        for place in range(length):
            target = int(batch.targets[row, place])
            if target == IGNORE:
                continue
            answers = [(1.0, output.logits[row, place])]
            if steps is not None:
                unpacked = steps.unpack(steps.values, rows, length, output.trace.num_steps)
                answers = [
                    (float(by_step[row, place, n]), unpacked[row, place, n])
                    for n in range(int(output.trace.steps[row, place]))
                ]
            theirs = log_softmax(taught[row, place].tolist(), 2.0)
            for weight, said in answers:
                ours = log_softmax(said.tolist(), 2.0)
                apart = math.fsum(math.exp(p) * (p - q) for p, q in zip(theirs, ours, strict=True))
                nats = -log_softmax(said.tolist())[target]
                total += weight * (0.7 * nats + 0.3 * 4.0 * apart)
    assert found == pytest.approx(total, rel=1e-5)


def test_a_student_comes_near_its_teacher_and_leaves_it_as_it_was(tmp_path, teacher):
    before = load_run(teacher).model.state_dict()
    options = {"teacher": str(teacher), "weight": 1.0}
    config = small(
        tmp_path,
        name="student",
        objective={"kind": "Distillation", "options": options},
        updates=60,
        optimizer={"learning_rate": 1e-2},
        penalty={"value": 0.0},
        schedule={"kind": "WarmupCosine", "options": {"warmup": 5}},
    )
    assert train_only(config) == 0
    student = load_run(tmp_path / "student")  # needs no teacher
    batch = student.task.batch("test", 0, 64)
    taught = load_run(teacher).forward(batch).logits.log_softmax(-1)

    def apart(logits: torch.Tensor) -> float:
        return float((taught.exp() * (taught - logits.log_softmax(-1))).sum(-1).mean())

    fresh = build_all(config).model.eval()
    with torch.no_grad():
        untrained = fresh(batch.tokens, batch.valid).logits
    assert apart(student.forward(batch).logits) < 0.5 * apart(untrained)
    after = load_run(teacher).model.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_a_run_is_read_back_when_its_teacher_has_gone(tmp_path, teacher):
    gone = {"kind": "Distillation", "options": {"teacher": str(tmp_path / "gone")}}
    with pytest.raises(UsageError, match="gone"):
        train_only(small(tmp_path / "runs", objective=gone))
    assert not (tmp_path / "runs").exists()
    assert isinstance(build_all(small(tmp_path, objective=gone)).objective, Distillation)


def test_a_teacher_of_another_task_is_refused(tmp_path, teacher):
    config = small(
        tmp_path,
        data={"kind": "PointerChase", "options": {"length": 5}},
        objective={"kind": "Distillation", "options": {"teacher": str(teacher)}},
    )
    built = build_all(config)
    with pytest.raises(UsageError, match=r"answers with \d+ tokens, and this run's task with"):
        built.objective.prepare(built.task, load_run)


def test_an_objective_of_ones_own_by_its_file(tmp_path):
    file = tmp_path / "twice.py"
    file.write_text(OWN)
    recipe = small(tmp_path, penalty={"value": 0.0})
    plain = parse(recipe, ["--name", "plain"])
    chosen = parse(
        recipe, ["--name", "own", "--objective.kind", f"{file}:Twice", "--objective.factor", "4"]
    )
    assert chosen.objective.options == {"factor": 4.0}
    for config in (plain, chosen):
        assert train_only(config.model_copy(update={"updates": 2})) == 0
    ours, theirs = losses(tmp_path / "own"), losses(tmp_path / "plain")
    assert ours[1] == pytest.approx(4 * theirs[1], rel=1e-6)


@pytest.mark.parametrize(
    ("kind", "options", "says"),
    [
        ("CrossEntropy", {"label_smoothing": 1.0}, "--objective.label-smoothing 1.0"),
        ("Distillation", {"teacher": "x", "weight": 2.0}, "--objective.weight 2.0"),
        ("Distillation", {"teacher": "x", "temperature": 0.0}, "--objective.temperature 0.0"),
        ("Distillation", {}, "lacks its option teacher"),
        ("CrossEntropy", {"smoothing": 0.1}, "has no option smoothing"),
        ("PonderNet", {}, "no objective of this name"),
    ],
)
def test_what_cannot_be_is_refused(tmp_path, kind, options, says):
    with pytest.raises(UsageError, match=says):
        build_all(small(tmp_path, objective={"kind": kind, "options": options}))
