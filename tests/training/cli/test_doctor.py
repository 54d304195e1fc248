"""The doctor finds what is broken for real, says the fix, and finds nothing where nothing is."""

import json
import os
from pathlib import Path

import pytest
import torch
from torch.utils.file_baton import FileBaton

from halting import UsageError
from training.cli import doctor
from training.distributed.doctor.checks import (
    Finding,
    check_backends,
    check_compiler,
    check_deepspeed,
    check_disk,
    check_libraries,
    check_locks,
    check_ops,
    check_ponderloop,
    check_processor,
    check_python,
    check_torch,
    check_two_ranks,
    extensions_folder,
)
from training.distributed.doctor.probes import probe_many_ranks


@pytest.fixture(scope="module")
def probe() -> dict:
    return probe_many_ranks()


@pytest.fixture
def broken_deepspeed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A deepspeed that comes before the real one and does what its file says."""
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
    return tmp_path / "deepspeed.py"


def test_deepspeed_is_found(probe):
    assert check_deepspeed(probe).state == "works"
    assert probe["version"] in check_deepspeed(probe).says
    ops = check_ops(probe)
    assert ops.state == "works" and "compiles none" in ops.says
    assert "deepspeed_shm_comm" in probe["to_compile"] or torch.cuda.is_available()


def test_a_deepspeed_that_cannot_be_imported(broken_deepspeed):
    broken_deepspeed.write_text(
        "print('library_log')\nraise ImportError('libsomething.so is missing')\n"
    )
    found = probe_many_ranks()
    assert found["error"] == "ImportError: libsomething.so is missing"
    assert check_backends(found).state == "works", "torch answers all the same"
    finding = check_deepspeed(found)
    assert (
        finding.state == "broken"
        and "libsomething.so" in finding.says
        and "pip install" in finding.fix
    )
    assert check_ops(found).state == "warns"


def test_a_deepspeed_that_hangs(broken_deepspeed):
    broken_deepspeed.write_text("import time\ntime.sleep(600)\n")
    found = probe_many_ranks(timeout=2.0)
    assert found == {"error": "no answer came in time"}
    assert check_deepspeed(found).state == "broken" and check_backends(found).state == "warns"


def test_an_old_deepspeed(probe):
    finding = check_deepspeed({**probe, "version": "0.9.5+abc"})
    assert finding.state == "broken" and "0.19 or newer" in finding.says


def test_a_deepspeed_whose_op_cannot_be_skipped(probe):
    assert check_ops({**probe, "can_skip": False, "accelerator": "cpu"}).state == "warns"
    assert "built: cpu_adam" in check_ops({**probe, "built": ["cpu_adam"]}).says


def test_a_torch_without_gloo(probe):
    assert check_backends({**probe, "backends": {"gloo": False, "NCCL": True}}).state == "warns"
    assert "gloo yes" in check_backends(probe).says


def test_a_lock_is_named_with_its_mend(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("TORCH_EXTENSIONS_DIR", str(tmp_path))
    assert check_locks(extensions_folder()).state == "works"
    build = tmp_path / "deepspeed_shm_comm"
    build.mkdir()
    baton = FileBaton(str(build / "lock"))  # as torch.utils.cpp_extension does
    assert baton.try_acquire()
    try:
        old = (build / "lock").stat().st_mtime - 3600
        os.utime(build / "lock", (old, old))
        finding = check_locks(extensions_folder())
    finally:
        baton.release()
    assert finding.state == "warns"
    assert str(build / "lock") in finding.says and "60 min" in finding.says
    assert f"    rm '{build / 'lock'}'" in doctor.as_text(finding).splitlines(), "a command to copy"
    assert check_locks(extensions_folder()).state == "works", "mended"


def test_no_extensions_folder_is_no_lock(tmp_path: Path):
    assert check_locks(tmp_path / "absent").state == "works"


def test_two_processes_that_cannot_talk(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("GLOO_SOCKET_IFNAME", "nosuchcard")
    finding = check_two_ranks(40.0)
    assert finding.state == "broken"
    assert "nosuchcard" in finding.says and "GLOO_SOCKET_IFNAME" in finding.fix


def test_two_processes_that_say_nothing_are_ended():
    assert "no answer came in time" in check_two_ranks(timeout=0.0).says


def test_two_processes_talk_whatever_a_launcher_left_behind(monkeypatch: pytest.MonkeyPatch):
    for name, value in {
        "RANK": "5",
        "WORLD_SIZE": "9",
        "MASTER_ADDR": "192.0.2.1",
        "MASTER_PORT": "1",
    }.items():
        monkeypatch.setenv(name, value)
    assert check_two_ranks() == Finding(
        "two ranks", "works", "two processes added two numbers over gloo"
    )


@pytest.mark.parametrize(
    ("finding", "state", "said"),
    [
        (check_python((3, 11, 0)), "works", "3.11.0"),
        (check_python((3, 10, 9)), "broken", "3.11 or newer"),
        (check_torch("2.6.0+cpu"), "works", "2.6.0"),
        (check_torch("2.10.1"), "works", "2.10.1"),
        (check_torch("2.5.1+cu124"), "broken", "2.6 or newer"),
        (check_libraries(["numpy", "pydantic"]), "works", "numpy"),
        (check_libraries(["numpy", "no_such_library"]), "broken", "missing: no_such_library"),
        (check_disk(Path("absent/runs"), 5e10), "works", "50 GB"),
        (check_disk(Path("."), 1e9), "warns", "1 GB"),
        (check_disk(Path("."), 1e7), "broken", "10 MB"),
        (check_ponderloop(), "works", ""),
    ],
    ids=lambda value: value.name if isinstance(value, Finding) else None,
)
def test_versions_and_room(finding, state, said):
    assert finding.state == state and said in finding.says
    assert bool(finding.fix) == (state != "works")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_cannot_be_written_to(tmp_path: Path):
    tmp_path.chmod(0o500)
    assert check_disk(tmp_path).state == "broken"


def test_no_compiler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("CXX", raising=False)
    compiler = tmp_path / "c++"
    compiler.write_text("#!/bin/sh\n")
    compiler.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert check_compiler() == Finding("C++ compiler", "works", str(compiler))
    compiler.unlink()
    assert check_compiler().state == "warns" and "g++" in check_compiler().fix
    monkeypatch.setenv("CXX", "no-such-compiler")
    assert "CXX names no-such-compiler" in check_compiler().says


def test_more_threads_than_cores():
    before = torch.get_num_threads()
    assert check_processor().state == "works"
    torch.set_num_threads((os.cpu_count() or 1) + 1)
    try:
        finding = check_processor()
    finally:
        torch.set_num_threads(before)
    assert finding.state == "warns" and "OMP_NUM_THREADS=" in finding.fix


def test_prints_findings_alone(capfd: pytest.CaptureFixture[str], tmp_path: Path):
    assert doctor.main(["--output", str(tmp_path)]) == 0
    out, err = capfd.readouterr()
    assert err == ""
    lines = out.splitlines()
    assert all(line[:2] in ("✓ ", "! ", "✗ ", "  ", "+ ", "x ", "") for line in lines[:-1]), out
    assert any(line[2:].startswith("two ranks") for line in lines)
    assert lines[-1].startswith("Training works here")


def test_json_holds_the_same(capfd: pytest.CaptureFixture[str], broken_deepspeed):
    broken_deepspeed.write_text("raise RuntimeError('broken on purpose')\n")
    assert doctor.main(["--quick", "--json"]) == 1
    out, err = capfd.readouterr()
    told = json.loads(out)
    names = [each["name"] for each in told["findings"]]
    assert err == "" and told["works"] is False
    assert [each["name"] for each in told["findings"] if each["state"] == "broken"] == ["deepspeed"]
    assert set(told["findings"][0]) == {"name", "state", "says", "fix"}
    assert "two ranks" not in names and len(names) == len(set(names))


def test_text_of_a_finding():
    finding = Finding("disk", "warns", "word " * 30, "fix " * 30)
    lines = doctor.as_text(finding).splitlines()
    assert lines[0].startswith("! disk           word") and lines[-1].startswith("    fix")
    assert max(map(len, lines)) <= 80
    assert doctor.as_text(Finding("disk", "broken", "full"), plain=True).startswith("x disk")
    assert "✗" in doctor.as_text(Finding("disk", "broken", "full"))


def test_verdict():
    works, warns, broken = (Finding(state, state, "") for state in ("works", "warns", "broken"))
    assert doctor.verdict([works]) == "Training works here."
    assert doctor.verdict([works, warns]) == "Training works here; worth a look: warns."
    assert (
        doctor.verdict([works, warns, broken]) == "Something that training needs is broken: broken."
    )


def test_an_unknown_flag_is_refused():
    with pytest.raises(SystemExit) as ended:
        doctor.main(["--quik"])
    assert ended.value.code == 2


def test_a_folder_whose_name_cannot_be_seen_is_refused() -> None:
    with pytest.raises(UsageError, match="--output .* holds"):
        doctor.main(["--quick", "--output", "a\nb"])
