"""Files and packages: complete files or none, and optional packages imported when needed."""

from __future__ import annotations

import errno
import importlib
import os
import platform
import re
import stat
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import ModuleType

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]
from .names import listing

__all__ = ["MissingPackageError", "check_writable", "need", "write_aside"]
__dir__ = listing(__all__)

#: Names to install under, where they differ from the module's.
_PACKAGES = {"sklearn": "scikit-learn"}


class MissingPackageError(ImportError):
    """An optional package is not installed; the message says how to get it."""


def need(module: str, purpose: str, install: str = '"fastnn[cli]"') -> ModuleType:
    """Import an optional package.

    Parameters
    ----------
    module : str
        Absolute name, such as ``"sklearn.neural_network"``.
    purpose : str
        What needs it, for the message.
    install : str
        What to give to pip.

    Raises
    ------
    MissingPackageError
        If it is not installed: "`purpose` needs `package`: pip install `install`".
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        top = module.split(".")[0]
        raise MissingPackageError(f"{purpose} needs {_PACKAGES.get(top, top)}: pip install {install}") from error


# ------------------------------------------------------------------ files
#
# A file is written beside its target and renamed. A writer that is killed leaves that temporary file; the next one in
# the same folder removes it. A writer holds a lock on its temporary file, which the system releases when the process
# dies. Locks may not work between hosts that share a file system, so the name of a temporary file has the host's in it.

#: Longest part of a target's name that a temporary's name repeats, so that any name that can be written has one.
_LONGEST_NAME = 180

#: What is wrong with the place, and not with what is written.
_NO_PLACE = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO, errno.EACCES, errno.EPERM, errno.EISDIR}

#: Seconds after which a temporary is taken for a dead writer's, where there are no locks.
_DEAD_AFTER = 86400.0


@contextmanager
def write_aside(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a temporary file beside `path`; rename it to `path` at the end, or remove it after an error.

    The name appears with the complete file or not at all, and the old file stays until then. A symbolic link is
    followed and stays. A file that is replaced hands its mode on, and its owner and group where that is allowed; a new
    one has the mode that the umask gives. Temporary files that killed writers on this host have left in the folder are
    removed; those of other hosts, and of writers that are alive, stay.

    Raises
    ------
    OSError
        If `path` cannot be written; the message names it.
    """
    target = _check_target(path)
    temporary, descriptor = _create(path, target)
    try:
        _remove_dead(target.parent)
        yield temporary
        with open(temporary, "r+b") as file:
            os.fsync(file.fileno())  # otherwise a crash can leave the new name with no content
        _take_mode(target, temporary)
        os.replace(temporary, target)
    except OSError as error:
        if error.errno not in _NO_PLACE:
            raise
        raise _named(path, error) from error
    finally:
        temporary.unlink(missing_ok=True)
        if descriptor is not None:
            os.close(descriptor)  # and the lock with it


def check_writable(path: str | os.PathLike[str]) -> None:
    """Raise an OSError that names the path unless a file can be written there; clear up as `write_aside` does."""
    target = _check_target(path)
    temporary, descriptor = _create(path, target)
    _remove_dead(target.parent)
    temporary.unlink(missing_ok=True)
    if descriptor is not None:
        os.close(descriptor)


def _check_target(path: str | os.PathLike[str]) -> Path:
    """The file that is to be replaced or made."""
    target = Path(os.path.realpath(path))  # through a symbolic link: the link stays
    try:
        os.stat(target)
    except OSError as error:
        if error.errno not in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
            raise  # a name that is too long, a folder that may not be searched: pathlib hides them since Python 3.14
    if target.is_dir():
        raise IsADirectoryError(f"cannot write {path}: it is a folder")
    if target.exists() and not target.is_file():
        raise OSError(f"cannot write {path}: not a regular file")  # a device must not be replaced by a file
    if not target.parent.is_dir():
        raise FileNotFoundError(f"cannot write {path}: the folder {target.parent} does not exist")
    if target.exists() and not os.access(target, os.W_OK):
        raise PermissionError(f"cannot write {path}: the file is read-only")
    return target


def _named(path: object, error: OSError) -> OSError:
    return type(error)(error.errno, f"cannot write {path}: {error.strerror or error}")


def _mark() -> str:
    """What the names of all temporaries have that are written on this host."""
    return f".fastnn-{zlib.crc32(platform.node().encode(errors='replace')):08x}-"


def _temporary(target: Path) -> Path:
    """A new name beside the target."""
    name = target.name
    if len(os.fsencode(name)) > _LONGEST_NAME:
        name = f"{zlib.crc32(os.fsencode(name)):08x}"
    return target.with_name(f".{name}{_mark()}{os.urandom(4).hex()}")


def _create(path: object, target: Path) -> tuple[Path, int | None]:
    """A new empty file beside the target, and a descriptor that holds its lock; None where there are no locks."""
    while True:
        temporary = _temporary(target)
        try:
            # What replaces a private file is private while it is written.
            descriptor = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600 if target.exists() else 0o666)
        except FileExistsError:
            continue
        except OSError as error:
            raise _named(path, error) from error
        if fcntl is None:
            os.close(descriptor)  # or Windows would not rename it
            return temporary, None
        with suppress(OSError):  # a file system without locks: nobody removes its temporaries
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        # A writer beside this one may have had the lock first, and taken the file for a dead one's.
        with suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(descriptor), os.stat(temporary)):
                return temporary, descriptor
        os.close(descriptor)


def _remove_dead(folder: Path) -> None:
    """Remove the temporaries that dead writers on this host have left in a folder, to whatever target."""
    known = re.compile(r"\..+" + re.escape(_mark()) + "[0-9a-f]{8}", re.DOTALL)
    with suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            if known.fullmatch(entry.name):
                with suppress(OSError):  # alive, or gone by now, or another user's
                    _remove_if_dead(entry.path)


def _remove_if_dead(path: str) -> None:
    if fcntl is None:
        if time.time() - os.stat(path).st_mtime > _DEAD_AFTER:
            os.unlink(path)
        return
    descriptor = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.unlink(path)
    finally:
        os.close(descriptor)


def _take_mode(target: Path, temporary: Path) -> None:
    """Give the new file the mode of the one that it replaces, and its owner and group where that is allowed."""
    try:
        old = target.stat()
    except FileNotFoundError:
        return
    mode, new = stat.S_IMODE(old.st_mode) & 0o777, temporary.stat()
    if (new.st_uid, new.st_gid) != (old.st_uid, old.st_gid):
        try:
            os.chown(temporary, old.st_uid, old.st_gid)
        except (OSError, AttributeError):  # Windows has no chown
            try:
                os.chown(temporary, -1, old.st_gid)
            except (OSError, AttributeError):
                mode = mode & 0o707 | (mode & 0o007) << 3  # another group: no more than everybody
    os.chmod(temporary, mode)
