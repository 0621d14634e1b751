"""Writing of files: complete ones or none, modes, links, what killed writers leave, places that cannot be written."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from fastnn.files import check_writable, write_aside

posix = pytest.mark.skipif(os.name != "posix", reason="locks, modes and links are POSIX's here")


def write(path: Path, content: bytes = b"new") -> None:
    with write_aside(path) as temporary:
        temporary.write_bytes(content)


@contextmanager
def mask(value: int) -> Iterator[None]:
    before = os.umask(value)
    try:
        yield
    finally:
        os.umask(before)


@contextmanager
def writer(path: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process in the middle of writing."""
    code = (
        "import sys, time; from pathlib import Path; from fastnn.files import write_aside\n"
        "with write_aside(Path(sys.argv[1])) as temporary:\n"
        "    temporary.write_bytes(b'half'); print('here', flush=True); sys.stdin.readline()\n"
        "print('done', flush=True)"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "here\n"
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def killed_writer(path: Path) -> str:
    """The name of what a killed writer has left."""
    before = set(os.listdir(path.parent))
    with writer(path) as process:
        process.send_signal(signal.SIGKILL)
        process.wait()
    (left,) = set(os.listdir(path.parent)) - before
    return left


# What killed writers leave.


@posix
@pytest.mark.parametrize("name", ["x.safetensors", "a", "[*]?", "x" * 255, "größe " * 20])
def test_the_next_writer_removes_what_killed_ones_have_left(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    write(path, b"old")
    left = [killed_writer(path) for _ in range(2)]
    assert all(one.startswith(".") for one in left)
    assert path.read_bytes() == b"old"
    write(path)
    assert os.listdir(tmp_path) == [name]
    assert path.read_bytes() == b"new"


@posix
def test_a_writer_that_is_alive_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "x"
    with writer(path) as process:
        write(path, b"mine")
        check_writable(path)
        assert len(os.listdir(tmp_path)) == 2
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write("\n")
        process.stdin.flush()
        assert process.stdout.readline() == "done\n"
        assert path.read_bytes() == b"half"  # the last one to finish
    assert os.listdir(tmp_path) == ["x"]


@posix
def test_files_of_other_hosts_are_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "x"
    left = killed_writer(path)
    other = re.sub("-[0-9a-f]{8}-", "-00000000-", left)
    (tmp_path / left).rename(tmp_path / other)
    (tmp_path / ".x.fastnn-note").touch()
    write(path)
    assert sorted(os.listdir(tmp_path)) == sorted(["x", other, ".x.fastnn-note"])
    killed_writer(tmp_path / "y")
    check_writable(path)  # before a training, for instance; y may never be written again
    assert sorted(os.listdir(tmp_path)) == sorted(["x", other, ".x.fastnn-note"])


@posix
def test_many_writers_of_one_path(tmp_path: Path) -> None:
    path, contents = tmp_path / "x", [bytes([65 + i]) * 20_000 for i in range(4)]
    write(path, contents[0])
    seen: set[bytes] = set()

    def work(content: bytes) -> None:
        for _ in range(30):
            write(path, content)

    threads = [threading.Thread(target=work, args=(content,)) for content in contents]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        seen.add(path.read_bytes())
    assert seen <= set(contents)
    assert os.listdir(tmp_path) == ["x"]


def test_without_locks_only_old_files_are_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from fastnn import files

    monkeypatch.setattr(files, "fcntl", None)
    path = tmp_path / "x"
    fresh, old = (files._temporary(path) for _ in range(2))
    fresh.touch()
    old.touch()
    os.utime(old, (time.time() - 1e6,) * 2)
    write(path)
    assert sorted(os.listdir(tmp_path)) == sorted([fresh.name, "x"])


@posix
def test_trainings_that_are_killed_come_to_the_same_end() -> None:
    """Five kills; tools/kill_trainings.py --kills 300 is for longer by hand."""
    tool = Path(__file__).resolve().parents[1] / "tools" / "kill_trainings.py"
    ran = subprocess.run(
        [sys.executable, tool, "--kills", "5", "--seed", str(int.from_bytes(os.urandom(3)))],
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "all trainings came to the bits of those that were not killed" in ran.stdout


# Modes and links.


@posix
@pytest.mark.parametrize("mode", [0o600, 0o640, 0o664, 0o755])
def test_a_file_keeps_its_mode(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "x"
    path.touch()
    path.chmod(mode)
    with mask(0o022), write_aside(path) as temporary:
        assert temporary.stat().st_mode & 0o777 == 0o600  # nobody else reads what replaces a private file
        temporary.write_bytes(b"new")
    assert path.stat().st_mode & 0o777 == mode


@posix
@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o077, 0o600), (0o002, 0o664)])
def test_a_new_file_has_the_mode_of_the_umask(tmp_path: Path, umask: int, mode: int) -> None:
    with mask(umask):
        write(tmp_path / "x")
    assert (tmp_path / "x").stat().st_mode & 0o777 == mode


@posix
@pytest.mark.skipif(os.name == "posix" and os.geteuid() != 0, reason="only root gives files away")
def test_owner_and_group_stay(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.touch()
    os.chown(path, 12345, 23456)
    write(path)
    assert (path.stat().st_uid, path.stat().st_gid) == (12345, 23456)


@posix
def test_another_group_gets_no_more_than_everybody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x"
    path.touch()
    path.chmod(0o664)
    stat = Path.stat

    class Other:
        def __init__(self, found: os.stat_result) -> None:
            self.st_mode, self.st_uid, self.st_gid = found.st_mode, found.st_uid, found.st_gid + 1

    monkeypatch.setattr(Path, "stat", lambda self, **k: Other(stat(self)) if self == path else stat(self, **k))
    monkeypatch.setattr(os, "chown", lambda *a: (_ for _ in ()).throw(PermissionError()))
    write(path)
    monkeypatch.undo()
    assert path.stat().st_mode & 0o777 == 0o644


@posix
def test_links_are_followed_and_stay(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    real, link, dangling = tmp_path / "folder" / "real", tmp_path / "link", tmp_path / "dangling"
    real.write_bytes(b"old")
    link.symlink_to(real)
    dangling.symlink_to(tmp_path / "folder" / "made")
    write(link)
    write(dangling)
    assert link.is_symlink()
    assert dangling.is_symlink()
    assert real.read_bytes() == (tmp_path / "folder" / "made").read_bytes() == b"new"
    loop = tmp_path / "loop"
    loop.symlink_to(loop)
    with pytest.raises(OSError, match="loop"):
        write(loop)


# Places that cannot be written.


@pytest.mark.parametrize("attempt", [write, check_writable])
def test_a_folder_or_a_file_in_its_place(tmp_path: Path, attempt: Callable[[Path], None]) -> None:
    with pytest.raises(IsADirectoryError, match=re.escape(f"cannot write {tmp_path}: it is a folder")):
        attempt(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"the folder .*absent does not exist"):
        attempt(tmp_path / "absent" / "x")
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="cannot write"):
        attempt(tmp_path / "file" / "x")
    with pytest.raises(OSError, match="x" * 300):
        attempt(tmp_path / ("x" * 300))
    assert os.listdir(tmp_path) == ["file"]


def open_to_others(folder: Path) -> None:
    """Let another user get there: pytest's folders are private."""
    for parent in (folder, *folder.parents[:-1]):
        mode = parent.stat().st_mode
        if parent.stat().st_uid == os.geteuid() and mode & 0o005 != 0o005:
            parent.chmod(mode | 0o055)


def not_root(code: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    """Run code as another user, if this is root."""
    drop = "import os\nif os.geteuid() == 0: os.setgid(65534); os.setuid(65534)\n"
    prepare = "import sys, fastnn.files, resource, signal\nfrom pathlib import Path\n"
    write = "def write(path):\n  with fastnn.files.write_aside(path) as f: f.write_bytes(b'new' * 10**6)\n"
    return subprocess.run(
        [sys.executable, "-c", prepare + drop + write + code, *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
    )


@posix
def test_a_read_only_folder_and_a_read_only_file(tmp_path: Path) -> None:
    open_to_others(tmp_path)
    (tmp_path / "x").write_bytes(b"old")
    ran = not_root("write(Path(sys.argv[1]) / 'new')", tmp_path)
    assert re.search(r"PermissionError: \[Errno 13\] cannot write .*/new: Permission denied", ran.stderr), ran.stderr
    tmp_path.chmod(0o777)
    (tmp_path / "x").chmod(0o444)
    ran = not_root("write(Path(sys.argv[1]))", tmp_path / "x")
    assert re.search(r"PermissionError: cannot write .*/x: the file is read-only", ran.stderr), ran.stderr
    assert (tmp_path / "x").read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["x"]


@posix
def test_a_full_disk(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(b"old")
    code = "resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))\nwrite(Path(sys.argv[1]))"
    open_to_others(tmp_path)
    tmp_path.chmod(0o777)
    path.chmod(0o666)
    ran = not_root(code, path)
    assert re.search(r"OSError: \[Errno 27\] cannot write .*/x: File too large", ran.stderr), ran.stderr
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["x"]
