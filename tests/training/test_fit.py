"""A training from Python: what comes back, what is left as it was, and how it ends."""

import asyncio
import logging
import random
import signal
import threading
import warnings
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from small_runs import losses, small

import training
from halting import UsageError
from training.runs.metric_arrays import MetricArrays

QUICK = {"updates": 4, "eval_every": 2, "save_every": 4, "test_examples": 8, "threads": 1}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run from Python, made in the main thread."""
    return training.fit(small(tmp_path_factory.mktemp("fit"), **QUICK, best_by="loss"))


def in_a_thread(call):
    """What a call gives in a thread of its own; what it raises is raised here."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(call).result()


def test_the_metrics_are_arrays_by_update(run):
    assert run.metrics["loss"].tolist() == list(losses(run.folder).values())
    assert run.metrics["evaluation/update"].tolist() == [2, 4]
    assert run.metrics["evaluation/accuracy"].dtype == np.float64
    assert run.metrics["test/loss"].tolist() == [run.summary["loss"]]
    assert "train/loss" in run.metrics and "evaluation/steps_by_difficulty" not in run.metrics
    with pytest.raises(KeyError):
        run.metrics["evaluation/nothing"]


def test_a_gap_in_the_metrics_is_not_a_number():
    lines = [
        {"kind": "train", "update": 1, "loss": None},
        {"kind": "train", "update": 2, "loss": 3.0, "loss_scale": 2},
    ]
    found = MetricArrays(lines)
    np.testing.assert_array_equal(found["loss"], [np.nan, 3.0])
    np.testing.assert_array_equal(found["loss_scale"], [np.nan, 2.0])


def test_the_plot_holds_the_figures_that_were_measured(run):
    figure = run.plot()
    assert [axes.get_title() for axes in figure.axes] == [
        "loss",
        "accuracy",
        "mean steps",
        "penalty",
    ]
    trained, evaluated = figure.axes[0].lines
    assert trained.get_ydata().tolist() == run.metrics["loss"].tolist()
    assert evaluated.get_xdata().tolist() == [2, 4]
    assert figure._repr_png_().startswith(b"\x89PNG")
    with pytest.raises(UsageError, match="no curve los"):
        run.plot("los")


def test_a_notebook_shows_the_run_in_a_few_words(run):
    shown = run._repr_html_()
    assert f"{run.summary['accuracy']:.2%}" in shown and run.folder.name in shown


def test_a_thread_and_a_running_event_loop_train_alike_bit_for_bit(run, tmp_path):
    async def beside() -> training.Run:
        return training.fit(small(tmp_path, name="loop", **QUICK))

    threaded = in_a_thread(lambda: training.fit(small(tmp_path, name="thread", **QUICK)))
    looped = asyncio.run(beside())
    assert losses(threaded.folder) == losses(looped.folder) == losses(run.folder)


def test_the_process_is_left_as_it_was(tmp_path):
    torch.manual_seed(5)
    np.random.seed(5)
    random.seed(5)
    wanted = (torch.rand(1), np.random.rand(), random.random())
    torch.manual_seed(5)
    np.random.seed(5)
    random.seed(5)
    logger = logging.getLogger("torch")
    before = (torch.get_num_threads(), list(logger.handlers), warnings.showwarning)
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    training.fit(small(tmp_path, **{**QUICK, "threads": 2, "updates": 1}))
    assert (torch.rand(1), np.random.rand(), random.random()) == wanted
    assert (torch.get_num_threads(), logger.handlers, warnings.showwarning) == before
    assert {number: signal.getsignal(number) for number in handlers} == handlers


def test_an_interrupt_is_raised_after_all_is_saved_and_the_run_goes_on(run, tmp_path):
    data = {"kind": "small_runs:Signalling", "options": {"length": 6, "at": 9}}
    with pytest.raises(training.TrainingStopped, match="saved at update 2") as stopped:
        training.fit(small(tmp_path, name="cut", data=data, **QUICK))
    assert isinstance(stopped.value, KeyboardInterrupt)
    assert list(losses(stopped.value.folder)) == [1, 2]
    assert training.load_run(stopped.value.folder).summary is None
    again = training.fit(resume=stopped.value.folder)
    assert losses(again.folder) == losses(run.folder)


def test_an_event_stops_a_training_in_a_thread(tmp_path):
    stop = threading.Event()
    stop.set()
    cut = in_a_thread(lambda: training.fit(small(tmp_path, **QUICK), stop=stop))
    assert list(losses(cut.folder)) == [1] and cut.summary is None


def test_two_trainings_at_once_are_refused(tmp_path):
    seen = []

    class Asking(threading.Event):
        def is_set(self) -> bool:
            if not seen:
                with pytest.raises(UsageError, match="is going on") as refused:
                    training.fit(small(tmp_path, name="second", **QUICK))
                seen.append(refused.value)
            return False

    training.fit(small(tmp_path, name="first", **{**QUICK, "updates": 1}), stop=Asking())
    assert seen and not (tmp_path / "second").exists()


def test_what_cannot_be_is_refused_before_anything_is_made(tmp_path):
    with pytest.raises(UsageError, match="It trains a RunConfig"):
        training.fit({"recipe": "parity"})
    with pytest.raises(UsageError, match="not a run folder"):
        training.fit(resume=tmp_path / "nothing")
    with pytest.raises(UsageError, match="cannot be divided"):
        training.fit(small(tmp_path).replace(accumulation=3))
    assert not list(tmp_path.iterdir())


def test_a_lost_training_is_an_error_that_names_its_folder(tmp_path):
    rough = {
        "optimizer": {"learning_rate": 1e30, "clip": 1e30},
        "schedule": {"kind": "WarmupCosine", "options": {"warmup": 0}},
    }
    with pytest.raises(training.TrainingLost, match="fix:") as lost:
        training.fit(small(tmp_path, name="lost", **{**QUICK, **rough, "updates": 30}))
    assert lost.value.folder == tmp_path / "lost"


def test_a_config_with_other_values_is_checked(tmp_path):
    config = small(tmp_path)
    changed = config.replace(updates=3, penalty={"value": 0.5}, halting={"kind": "PonderNet"})
    assert changed.updates == 3 and changed.penalty.value == 0.5 and changed.penalty.warmup == 6
    assert changed.halting.kind == "PonderNet" and config.updates == 12
    with pytest.raises(UsageError, match="updats"):
        config.replace(updats=3)
    with pytest.raises(UsageError, match="--penalty.value"):
        config.replace(penalty={"value": -1.0})
