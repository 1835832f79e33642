"""Rows of measurements: CSV files that grow row by row, each row with machine, versions, commit and command."""

from __future__ import annotations

import csv
import os
import platform
import subprocess
import sys
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

HERE = Path(__file__).parent
STAMP = ["machine", "threads", "versions", "commit", "command", "date"]
PACKAGES = ("convexnn", "numpy", "scipy", "scikit-learn")


def processor():
    """Model of the processor and number of cores."""
    model = platform.processor() or platform.machine()
    if Path("/proc/cpuinfo").exists():
        names = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
        model = names[0].split(":")[1].strip() if names else model
    return f"{model}, {os.cpu_count()} cores"


def versions(packages=PACKAGES):
    """Python and the packages that are there, as one line."""
    found = [f"Python {platform.python_version()}"]
    for name in packages:
        try:
            found.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            found.append(f"{name} (none)")
    return ", ".join(found)


def commit():
    """Short hash of the checkout's commit, with a plus where tracked files differ from it."""
    command = ["git", "-C", str(HERE), "describe", "--always", "--dirty=+", "--exclude=*"]
    try:
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


class Table:
    """The rows of one suite in a CSV file, kept as they come, so that a run that was ended can go on.

    Parameters
    ----------
    path : Path
        The file; its folder is made with the first row.
    columns, key : list of str
        Columns of a row, and those by which a finished row is found again.
    command : str
        The command behind new rows.
    threads : int
        BLAS threads of new rows.

    Raises
    ------
    ValueError
        When the file has other columns.
    """

    def __init__(self, path, columns, key, command="", threads=1):
        self.path, self.columns, self.key = Path(path), [*columns, *STAMP], key
        self.command, self.threads, self.commit = command, threads, commit()
        self.rows = stored(self.path)
        if self.rows and list(self.rows[0]) != self.columns:
            raise ValueError(f"{self.path} must have the columns {self.columns}, got {list(self.rows[0])}: move it.")
        self.done = {self.name(row) for row in self.rows}

    def name(self, row):
        """The key of a row, as text."""
        return tuple(text(row[column]) for column in self.key)

    def __contains__(self, row):
        return self.name(row) in self.done

    def find(self, **values):
        """Rows with these values."""
        return [row for row in self.rows if all(text(row[name]) == text(value) for name, value in values.items())]

    def add(self, row, packages=()):
        """Keep a row; ``packages`` are the pins of a rival's own environment."""
        line = versions() + "".join(f", {pin.replace('==', ' ')}" for pin in packages)
        now = datetime.now(UTC).strftime("%Y-%m-%d %H:%M")
        row = row | dict(zip(STAMP, [processor(), self.threads, line, self.commit, self.command, now]))
        if unknown := set(row) - set(self.columns):
            raise ValueError(f"row must have the columns {self.columns}, got {sorted(unknown)} as well.")
        row = {name: number(text(row.get(name)), name) for name in self.columns}
        new = not self.path.exists()
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with open(self.path, "a", newline="") as file:
            writer = csv.DictWriter(file, self.columns, lineterminator="\n")
            if new:
                writer.writeheader()
            writer.writerow({name: text(value) for name, value in row.items()})
        self.rows.append(row)
        self.done.add(self.name(row))


def stored(path):
    """Rows of a CSV file, numbers as floats, empty cells as None; none when there is no file."""
    if not Path(path).exists():
        return []
    # Traces are long cells.
    csv.field_size_limit(10**8)
    with open(path, newline="") as file:
        return [{key: number(value, key) for key, value in row.items()} for row in csv.DictReader(file)]


def number(value, column=""):
    """A cell as a float where it is one, None where it is empty; stamps stay text (a commit may look like 66455e9)."""
    if column in STAMP:
        return value
    try:
        return float(value) if value != "" else None
    except ValueError:
        return value


def text(value):
    """A cell as it is written: enough digits to judge a gap of 1e-9."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(int(value))
    return f"{value:.13g}" if isinstance(value, (float, int)) or hasattr(value, "dtype") else str(value)


def provenance(rows):
    """Lines for a page: which machine, which versions, which commit, which command."""
    lines = []
    for name in ("machine", "versions", "commit", "command"):
        kinds = list(dict.fromkeys(str(row[name]) for row in rows))
        if name == "versions":
            kinds = [", ".join(dict.fromkeys(part for kind in kinds for part in kind.split(", ")))]
        if name == "machine":
            threads = ", ".join(dict.fromkeys(text(row["threads"]) for row in rows))
            kinds = [f"{'; '.join(kinds)}; BLAS threads: {threads}"]
        kinds = [f"`{kind}`" for kind in kinds] if name == "command" else kinds
        lines.append(f"* {name.capitalize()}: {', '.join(kinds)}")
    return lines


def markdown(heads, rows):
    """Lines of a Markdown table; cells are text."""
    return [f"| {' | '.join(map(str, line))} |" for line in (heads, ["---"] * len(heads), *rows)]


def log(*words):
    """Progress on standard error."""
    print(*(f"{word:.7g}" if isinstance(word, float) else word for word in words), file=sys.stderr, flush=True)
