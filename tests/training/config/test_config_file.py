"""A run from a file: a config.json, YAML, and the command that a report prints."""

import json
import shlex
from pathlib import Path

import pytest
from small_runs import SMALL, losses, small

from halting import UsageError
from training.cli.train_request import read_request
from training.recipes.load import load_config, load_recipe
from training.runs.loaded import read_config
from training.start import train
from training.train import main


def written(folder: Path, text: str, name: str = "run.yaml") -> Path:
    path = folder / name
    path.write_text(text)
    return path


def test_a_whole_config_comes_back_from_json_and_yaml(tmp_path):
    config = small(tmp_path, halting={"kind": "PonderNet", "options": {"bias_init": -2.0}})
    assert load_config(written(tmp_path, config.to_json(), "config.json")) == config
    assert load_config(written(tmp_path, config.to_json())) == config  # JSON is YAML, too


def test_flags_come_on_top_of_a_file(tmp_path):
    path = written(tmp_path, json.dumps({**SMALL, "output": str(tmp_path)}), "config.json")
    config = read_request(
        ["--config", str(path), "--updates", "30", "--halting.bias-init", "-2"]
    ).config
    assert config == small(
        tmp_path, updates=30, halting={"kind": "GravesACT", "options": {"bias_init": -2.0}}
    )


def test_a_short_file_changes_its_recipe(tmp_path):
    text = """
        recipe: parity
        updates: 7
        optimizer: {learning_rate: 1e-3}
        halting:
          kind: PonderNet
    """
    config = load_config(written(tmp_path, text))
    recipe = load_recipe("parity")
    assert config.optimizer == recipe.optimizer.replace(learning_rate=0.001)
    assert config == recipe.replace(
        updates=7, optimizer={"learning_rate": 1e-3}, halting={"kind": "PonderNet"}
    )


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("run.yaml", "recipe: parity\nupdats: 3", "no key updats"),
        ("run.yaml", "recipe: parity\nupdates: '3'", "--updates is '3'"),
        ("run.yaml", "recipe: parity\nupdates: 2026-11-30", "--updates is"),
        ("run.yaml", "recipe: parity\nupdates: 3\nupdates: 4", r"key updates twice \(3 and 4\)"),
        ("run.yaml", "recipe: parity\nloop: {path: 1, path: 2}", "key path twice"),
        ("run.json", '{"recipe": "parity", "recipe": "babi"}', "key recipe twice"),
        ("run.yaml", "recipe: [parity", "cannot be read"),
        ("run.yaml", "? [a]\n: 3", "unhashable"),
        (
            "run.yaml",
            "\n".join(
                f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9) or 1}]" for n in range(1, 9)
            ).replace("*a0", "1"),
            "more than 10,000 values",
        ),
        ("run.yaml", "- parity", "holds list"),
        ("run.yaml", "updates: 3", "lacks"),
        ("run.yaml", "recipe: parrity", "no recipe parrity"),
        ("run.txt", "recipe: parity", "neither JSON nor YAML"),
    ],
)
def test_what_a_file_cannot_say_is_refused(tmp_path, name, text, says):
    path = written(tmp_path, text, name)
    with pytest.raises(UsageError, match=says) as refused:
        load_config(path)
    assert refused.value.why and refused.value.write


@pytest.mark.parametrize("name", ["run.yaml", "run.json"])
def test_a_mark_before_a_file_is_read_over_and_another_encoding_named(tmp_path, name):
    path = tmp_path / name
    text = '{"recipe": "parity", "name": "café"}'
    path.write_bytes(text.encode("utf-8-sig"))
    assert load_config(path).name == "café"
    for encoding, says in (("utf-16", "UTF-16"), ("latin-1", "Windows-1252")):
        path.write_bytes(text.encode(encoding))
        with pytest.raises(UsageError) as refused:
            load_config(path)
        assert says in refused.value.why


@pytest.mark.parametrize(
    "others", [["pointer_chase"], ["--resume", "runs/a"], ["--from-tune", "a"]]
)
def test_a_file_comes_alone(tmp_path, others):
    path = written(tmp_path, "recipe: parity")
    with pytest.raises(UsageError, match="--config"):
        read_request([*others, "--config", str(path)])
    with pytest.raises(UsageError, match=r"nothing\.json cannot be read"):
        read_request(["--config", str(tmp_path / "nothing.json")])


@pytest.mark.parametrize("name", [None, "it's named"])
def test_the_command_of_a_report_makes_the_same_run_again(tmp_path, name):
    output = tmp_path / "with a space"
    halting = {"kind": "PonderNet", "options": {"bias_init": -2.0}}
    assert train(small(output, name=name, updates=4, halting=halting, seed=3, threads=1)) == 0
    folder = output / (name or "pointer_chase-001")
    page = (folder / "report.md").read_text()
    command = page.partition("```bash\n")[2].partition("\n```")[0]
    words = shlex.split(command)
    assert words[:2] == ["ponder", "train"]
    assert main(words[2:]) == 0
    again = output / (f"{name}-again" if name else "pointer_chase-002")
    assert losses(again) == losses(folder) and len(losses(again)) == 4


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b'{"recipe": "parity", "recipe": "lm"}', "recipe twice"),
        (b"[" * 100_000, "nested too deeply"),
        (b'{"a":' * 100_000, "nested too deeply"),
        ("é".encode("latin-1"), "not text in UTF-8"),
        ("{}".encode("utf-16"), "not text in UTF-8"),
        (b'{"updates": NaN}', "NaN"),
        (b'{"updates": ' + b"9" * 5000 + b"}", "not JSON"),
        (b"", "not JSON"),
    ],
)
def test_the_config_of_a_run_is_read_as_strictly_as_one_that_is_given(
    tmp_path: Path, content: bytes, says: str
):
    (tmp_path / "config.json").write_bytes(content)
    with pytest.raises(UsageError, match=says) as found:
        read_config(tmp_path)
    assert str(tmp_path) in found.value.what
