"""Rivals that need packages of their own: an environment each, and calls into it."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parent.parent
#: Pinned wherever torch is installed; its CPU build is enough.
TORCH = "torch==2.13.0"
#: Seconds for a process to start and import its packages, on a slow machine.
STARTUP = 15.0


def ensure(pins, folder):
    """Interpreter of an environment with these packages, which is made when it is not there.

    Parameters
    ----------
    pins : list of str
        Requirements. The first is installed first, and again with the others, which would take any version of it.
    folder : str
        Where environments are kept.

    Returns
    -------
    python : str
        Path of the interpreter.

    Raises
    ------
    RuntimeError
        When the packages cannot be had, with pip's last line.
    """
    home = Path(folder).expanduser() / "-".join(pins).replace("==", "-")
    python = home / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    try:
        if not (home / "ready").exists():
            print("installing", *pins, "...", file=sys.stderr, flush=True)
            subprocess.run([sys.executable, "-m", "venv", "--clear", str(home)], check=True, capture_output=True)
            for packages in (pins[:1], pins):
                command = [str(python), "-m", "pip", "install", "--quiet", *packages]
                subprocess.run(command, check=True, capture_output=True, text=True)
            (home / "ready").touch()
        return str(python)
    except (OSError, subprocess.CalledProcessError) as error:
        said = (getattr(error, "stderr", None) or str(error)).strip().splitlines()
        raise RuntimeError(f"not installed: {said[-1] if said else error}") from error


def call(module, python, arrays, threads, max_time):
    """What the rival's function makes of the arrays, in its own environment.

    Parameters
    ----------
    module : str
        Name of the rival's module, which ends with ``serve``.
    python : str
        Interpreter.
    arrays : dict
        What the function gets; ``.npz`` files carry it there and back.
    threads : int
        BLAS and OpenMP threads.
    max_time : float
        Seconds after which the process is ended; STARTUP more are for its imports.

    Returns
    -------
    arrays : dict

    Raises
    ------
    RuntimeError
        When it was stopped, or failed, with the last line that it said.
    """
    names = ("OPENBLAS", "OMP", "MKL", "NUMBA")
    environment = os.environ | {f"{name}_NUM_THREADS": str(threads) for name in names}
    with tempfile.TemporaryDirectory() as folder:
        source, destination = Path(folder, "in.npz"), Path(folder, "out.npz")
        np.savez(source, **arrays)
        command = [python, "-m", module, str(source), str(destination)]
        options = dict(
            env=environment, check=True, capture_output=True, timeout=max_time + STARTUP, text=True, cwd=ROOT
        )
        try:
            subprocess.run(command, **options)
            with np.load(destination) as out:
                return dict(out)
        except subprocess.TimeoutExpired:
            raise RuntimeError(f"stopped after {max_time:.0f} s") from None
        except (OSError, subprocess.CalledProcessError) as error:
            said = (getattr(error, "stderr", None) or str(error)).strip().splitlines()
            raise RuntimeError(f"failed: {said[-1] if said else error}") from error


def serve(function):
    """The other end of ``call``: arrays from the first path of the command line, the function's to the second."""
    with np.load(sys.argv[1]) as file:
        data = {name: file[name] for name in file.files}
    np.savez(sys.argv[2], **function(data))
