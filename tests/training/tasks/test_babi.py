"""bAbI: reading stories, splitting them, and the examples that are made of them."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from halting import UsageError
from training.tasks import IGNORE, SPLITS, Babi
from training.tasks.babi_stories import VARIABLE, find_folder, read_stories
from training.tasks.kept_data import KeptData

STORY = """1 Mary went to the {0}.
2 John went to room {1}.
3 Where is Mary? \t{0}\t1
4 Mary took the milk{2}.
5 Where is the milk?\t{0}\t4 1
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Two tasks in the files' own format: 60 stories of two questions, and 60 of one with a list as
    answer."""
    home = tmp_path_factory.mktemp("babi") / "en-10k"
    home.mkdir()
    places = ("kitchen", "garden", "office")
    first = [STORY.format(places[n % 3], n, " there" * (n % 5)) for n in range(60)]
    (home / "qa2_two_train.txt").write_text("".join(first))
    second = [f"1 The {n} box fits.\n2 What fits? \tbox,{n}\t1\n" for n in range(60)]
    (home / "qa18_size_train.txt").write_text("".join(second))
    (home / "qa2_two_test.txt").write_text("1 Never read.\n2 Read? \tyes\t1\n")
    return home.parent


def test_questions_have_the_facts_before_them_and_count_what_supports_them(folder):
    first, second = read_stories(folder, 2).questions[:2]
    assert first.facts == (
        ("mary", "went", "to", "the", "kitchen"),
        ("john", "went", "to", "room", "0"),
    )
    assert (first.question, first.answer, first.supporting) == (
        ("where", "is", "mary", "?"),
        "kitchen",
        1,
    )
    assert (
        second.facts == (*first.facts, ("mary", "took", "the", "milk")) and second.supporting == 2
    )
    assert "never" not in Babi(str(folder), (2,)).words, "the published test questions are not read"


def test_a_story_is_in_one_split(folder):
    by_split = {
        split: {each.facts[:3] for each in read_stories(folder, 2).questions if each.split == split}
        for split in SPLITS
    }
    assert all(by_split.values())
    stories = [each for each in read_stories(folder, 2).questions if len(each.facts) == 3]
    of_story = {}
    for each in stories:
        assert of_story.setdefault(each.facts, each.split) == each.split
    assert {each.split for each in read_stories(folder, 18).questions} == set(SPLITS)


def test_examples_ask_at_the_question_and_are_as_hard_as_their_facts(folder):
    task = Babi(str(folder), (2, 18), length=5)
    batch = task.batch("train", 0, 40)
    assert batch.tokens.shape == (40, 5, task.vector_size) and set(
        batch.tokens.unique().tolist()
    ) == {0, 1}
    lengths = batch.valid.sum(1)
    assert ((batch.targets != IGNORE).nonzero()[:, 1] == lengths - 1).all(), (
        "one question each, at the last position"
    )
    sentences = [
        task.decode(batch.tokens[row, :length].tolist())
        for row, length in enumerate(lengths.tolist())
    ]
    known = {
        (*(" ".join(fact) for fact in q.facts), " ".join(q.question)): q
        for n in (2, 18)
        for q in read_stories(folder, n).questions
    }
    for row, told in enumerate(sentences):
        question = known[tuple(told)]
        assert (
            task.answers[int(batch.targets[row, len(told) - 1])] == question.answer
            and question.split == "train"
        )
        assert batch.difficulty[row, : len(told)].tolist() == [question.supporting] * len(told)
        assert (
            batch.difficulty[row, len(told) :].isnan().all()
            and not batch.tokens[row, len(told) :].any()
        )
    assert 10 < sum(told[-1].startswith("what") for told in sentences) < 30, (
        "tasks are equally likely"
    )


def test_examples_are_a_pure_function_of_seed_split_and_number(folder):
    task = Babi(str(folder), (2,))
    whole, part = task.batch("test", 0, 8), Babi(str(folder), (2,)).batch("test", 4, 4)
    assert torch.equal(whole.tokens[4:], part.tokens) and torch.equal(
        whole.targets[4:], part.targets
    )
    assert not torch.equal(Babi(str(folder), (2,), seed=1).batch("test", 0, 8).tokens, whole.tokens)


def test_a_typed_story_is_read_as_those_of_the_files(folder):
    task = Babi(str(folder), (2,))
    vectors = task.encode("Mary went to the garden. Where is Mary?")
    assert task.decode(vectors) == ["mary went to the garden", "where is mary ?"]
    for text in (
        "Mary went to the garden.",
        "",
        "Mary went to the moon. Where is Mary?",
        f"{'the ' * 20}. Where?",
    ):
        with pytest.raises(UsageError):
            task.encode(text)


def test_words_and_answers_are_kept_and_other_files_refused(folder, tmp_path):
    here = shutil.copytree(folder, tmp_path / "babi")
    before = Babi(str(here), (2,))
    assert before.says().startswith("read 1 file of bAbI") and "120 questions" in before.says()
    kept = KeptData("runs/a", "Babi", before.identity(), before.vocabulary())
    path = here / "en-10k" / "qa2_two_train.txt"
    text = path.read_text()
    path.unlink()
    task = Babi(str(here), (2,), kept_data=kept)
    assert (task.words, task.answers, task.size) == (before.words, before.answers, before.size)
    vectors = task.encode("Mary went to the garden. Where is Mary?")
    assert vectors == before.encode("Mary went to the garden. Where is Mary?")
    path.write_text(text)
    assert torch.equal(task.batch("train", 0, 4).tokens, before.batch("train", 0, 4).tokens)
    path.write_text(text.replace("took", "dropped", 1))
    with pytest.raises(UsageError, match=r"qa2_two_train\.txt has changed"):
        Babi(str(here), (2,), kept_data=kept).batch("train", 0, 1)
    with pytest.raises(UsageError, match="have 'dropped' in them"):
        Babi(str(here), (2,), kept_data=replace(kept, allow_changed=True)).batch("train", 0, 1)
    path.write_text(text.replace("took", "went", 1))
    Babi(str(here), (2,), kept_data=replace(kept, allow_changed=True)).batch("train", 0, 1)
    with pytest.raises(UsageError, match="no vocabulary"):
        Babi(str(here), (2,), kept_data=replace(kept, vocabulary={"words": 3}))


def test_a_file_that_is_no_text_is_named(tmp_path):
    path = tmp_path / "qa1_broken_train.txt"
    path.write_bytes(b"1 Mary went to the caf\xe9.\n2 Where is Mary? \tcaf\xc3\xa9\t1\n")
    with pytest.raises(UsageError, match=r"qa1_broken_train.txt is not text .* byte 22 \(0xe9\)"):
        Babi(str(tmp_path), (1,))


def test_what_cannot_be_is_refused(folder, tmp_path, monkeypatch):
    for tasks in ((), (0,), (21,), (2, 2)):
        with pytest.raises(UsageError, match="1 to 20"):
            Babi(str(folder), tasks)
    with pytest.raises(UsageError, match=r"no file of bAbI's task 3.*\n?.*2, 18"):
        Babi(str(folder), (3,))
    with pytest.raises(UsageError, match="fewer than --data.length 2"):
        Babi(str(folder), (2,), length=2)
    with pytest.raises(UsageError, match="not a folder"):
        find_folder(str(tmp_path / "nowhere"))
    (tmp_path / "qa1_broken_train.txt").write_text("1 Mary went.\n2 Where? \tgarden\n")
    with pytest.raises(UsageError, match="has the line"):
        Babi(str(tmp_path), (1,))
    monkeypatch.setenv(VARIABLE, str(folder))
    assert find_folder(None) == folder
    monkeypatch.delenv(VARIABLE)
    (tmp_path / "shared" / "data" / "babi").mkdir(parents=True)
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    assert find_folder(None) == tmp_path / "shared" / "data" / "babi"


def real() -> Path | None:
    try:
        return find_folder(None)
    except UsageError:
        return None


@pytest.mark.skipif(
    real() is None, reason="the files of bAbI are not there (PONDER_BABI, shared/data/babi)"
)
def test_the_published_files_are_read() -> None:
    task = Babi(None, (1, 2, 3))
    assert task.answers == ["bathroom", "bedroom", "garden", "hallway", "kitchen", "office"]
    batch = task.batch("train", 0, 300)
    hard = batch.difficulty[:, 0]
    assert set(hard.tolist()) == {1, 2, 3}
    assert min(int((hard == n).sum()) for n in (1, 2, 3)) > 60
