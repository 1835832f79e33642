"""Files: written beside and renamed, so that no file is ever half written; arrays of .npz files, checked before use."""

from __future__ import annotations

import math
import os
import shutil
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from os import PathLike
from pathlib import Path
from secrets import token_hex
from typing import IO, Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

#: Arrays of a file may take this many bytes, or this many times the size of the file where that is more.
MOST_BYTES, MOST_EXPANSION = 64 * 2**20, 10


@contextmanager
def replacing(path: str | PathLike, *, text: bool = False) -> Iterator[IO[Any]]:
    """A file that takes the place of the path when the block ends; where the block fails the path is as it was.

    Parameters
    ----------
    path : str or path
        Where the file shall be. Links are followed; what is no regular file, such as /dev/stdout, is written at once.
    text : bool, default=False
        UTF-8 text with line ends as they are written, instead of bytes.

    Yields
    ------
    file : file object
        Open for writing.

    Raises
    ------
    OSError
        When the file cannot be written.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     with replacing(f"{folder}/a.txt", text=True) as file:
    ...         _ = file.write("all of it")
    ...     Path(folder, "a.txt").read_text()
    'all of it'
    """
    mode = "w" if text else "wb"
    options: dict[str, Any] = dict(newline="", encoding="utf-8") if text else {}
    if _is_device(path):
        with open(path, mode, **options) as file:
            yield file
        return
    target, part = Path(path).resolve(), _part(path)
    try:
        with open(part, mode, **options) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        if target.exists():
            shutil.copymode(target, part)
        os.replace(part, target)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def check_writable(path: str | PathLike) -> None:
    """OSError when no file can be written at a path; nothing is left there, and a file that is there stays as it is."""
    if not _is_device(path):
        _part(path).unlink()


def _is_device(path: str | PathLike) -> bool:
    """Whether there is something that cannot be renamed over, such as a terminal or a pipe. (A folder is an error.)"""
    return Path(path).exists() and not (Path(path).is_file() or Path(path).is_dir())


def _part(path: str | PathLike) -> Path:
    """A new, empty file beside a path; OSError that names the path."""
    target = Path(path).resolve()
    part = target.with_name(f".{token_hex(8)}.part")
    try:
        if target.exists():
            # Renaming would overwrite a file that is write-protected.
            with open(target, "ab"):
                pass
        with open(part, "xb"):
            pass
    except OSError as error:
        raise type(error)(error.errno, error.strerror, str(path)) from None
    return part


def read_arrays(path: str | PathLike) -> dict[str, NDArray]:
    """All arrays of an .npz file by name, none of which needs pickle.

    Shapes and sizes are read, and compared with the size of the file, before any array is allocated.

    Parameters
    ----------
    path : str or path
        An .npz file.

    Returns
    -------
    arrays : dict of arrays

    Raises
    ------
    ValueError
        When the file is not an .npz file, is damaged, holds objects, or would expand to much more than its size.
    OSError
        When the file cannot be read.
    """
    with open(path, "rb") as opened:
        try:
            with zipfile.ZipFile(opened) as archive:
                return _arrays(archive, max(MOST_BYTES, MOST_EXPANSION * os.fstat(opened.fileno()).st_size))
        except MemoryError:
            raise
        except Exception as error:
            # Whatever a crafted or damaged file makes a parser raise.
            raise ValueError(f"{path} is not an .npz file of a network: {error or type(error).__name__}") from None


def _arrays(archive: zipfile.ZipFile, most: int) -> dict[str, NDArray]:
    members = [info for info in archive.infolist() if info.filename.endswith(".npy")]
    size = sum(info.file_size for info in members)
    if size > most:
        raise ValueError(
            f"its arrays take {size:,} bytes, more than the {most:,} that are read from a file of this size; save them "
            "without compression."
        )
    arrays = {}
    for info in members:
        name = info.filename.removesuffix(".npy")
        with archive.open(info) as file:
            version = npy.read_magic(file)
            read_header = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
            shape, fortran, dtype = read_header(file)
            if dtype.hasobject:
                raise ValueError(f"{name!r} holds Python objects, which only pickle could read.")
            # Not what the header says but what the file holds is allocated.
            content = file.read()
        if len(content) != math.prod(shape) * dtype.itemsize or min(shape, default=0) < 0:
            raise ValueError(f"{name!r} has {len(content)} bytes, which is not what its shape {shape} takes.")
        arrays[name] = np.ndarray(shape, dtype, content, order="F" if fortran else "C").copy(order="K")
    return arrays
