"""Benchmarks of convexnn against gradient training and every other convex tool.

python -m benchmarks                         # what there is
python -m benchmarks run SUITE [--quick]     # measure; finished rows are kept, a run that was ended goes on
python -m benchmarks report [SUITE ...]      # tables and pictures from the rows in benchmarks/results
python -m benchmarks install                 # make the rivals' environments beforehand
"""

from __future__ import annotations

import argparse
import os
import shlex
import sys
import warnings
from pathlib import Path
from time import perf_counter

from sklearn.exceptions import ConvergenceWarning
from threadpoolctl import threadpool_limits

from benchmarks import rivals, suites
from benchmarks.environments import ensure
from benchmarks.records import HERE, Table, log, provenance, stored, text

#: Options whose values are private to a machine: they are not part of the command that rows carry.
PRIVATE = ("--data", "--envs", "--out")
#: What progress shows of a row, as far as it has it.
SHOWN = ("problem", "size", "set", "share", "data", "split", "method", "model", "setting", "width", "step", "seed")


def options(parser, module):
    """Options of every suite, and those of one: name, value of a full run, value of a quick one, help."""
    parser.add_argument("--quick", action="store_true", help="a small version; rows go to OUT/quick")
    parser.add_argument("--data", default=os.environ.get("CONVEXNN_DATA"), metavar="DIR", help="data folder")
    parser.add_argument("--out", default=HERE / "results", type=Path, metavar="DIR", help="where rows are kept")
    parser.add_argument("--envs", default="~/.cache/convexnn-bench", metavar="DIR", help="environments of rivals")
    parser.add_argument("--threads", type=int, default=1, help="BLAS threads of every method")
    parser.add_argument("--fresh", action="store_true", help="forget the rows that are there")
    for name, (full, quick, words) in module.OPTIONS.items():
        first = full[0] if isinstance(full, (list, tuple)) else full
        many = {"nargs": "+"} if isinstance(full, (list, tuple)) else {}
        shown = " ".join(map(str, full)) if many else full
        parser.add_argument(
            f"--{name}", type=type(first), help=f"{words} (default: {shown}; quick: {quick})".replace("%", "%%"), **many
        )


def complete(args, module):
    """Fill in what was not given, by whether the run is quick."""
    for name, (full, quick, _) in module.OPTIONS.items():
        key = name.replace("-", "_")
        if getattr(args, key) is None:
            setattr(args, key, quick if args.quick else full)
    return args


def public(argv):
    """The command line without what is private to a machine."""
    words, skip = ["python -m benchmarks"], False
    for word in argv:
        if skip or word.split("=")[0] in PRIVATE:
            skip = not skip and "=" not in word
            continue
        words.append(shlex.quote(word))
    return " ".join(words)


def place(folder, name, quick):
    """Folder and file of a suite's rows."""
    folder = Path(folder, "quick") if quick else Path(folder)
    return folder / f"{name}.csv"


def run(args, argv):
    """All rows of a suite that are not there yet."""
    module = suites.load(args.suite)
    args = complete(args, module)
    path = place(args.out, args.suite, args.quick)
    if args.fresh:
        path.unlink(missing_ok=True)
    command = public([word for word in argv if word != "--fresh"])
    table, begin = Table(path, module.COLUMNS, module.KEY, command, args.threads), perf_counter()
    log(f"{args.suite}: {len(table.rows)} rows are there already" + "; --fresh measures them again" * bool(table.rows))
    count = 0
    with threadpool_limits(args.threads), warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        for row, packages in module.rows(args, table):
            table.add(row, packages)
            count += 1
            words = [text(row[name]) for name in SHOWN if row.get(name) is not None]
            log(f"[{perf_counter() - begin:.0f} s, row {count}]", *words, *module.headline(row))
    log(f"{args.suite}: {count} new rows in {perf_counter() - begin:.0f} s, {path}")
    return table


def report(names, out):
    """Pages and pictures of the suites that have rows."""
    found = False
    for quick in (False, True):
        for name in names:
            path = place(out, name, quick)
            rows = stored(path)
            if not rows:
                continue
            module, found = suites.load(name), True
            lines = [f"# {module.TITLE}{', quick version' if quick else ''}", "", module.QUESTION, ""]
            lines += [*module.report(rows, path.parent), "", *provenance(rows), ""]
            path.with_suffix(".md").write_text("\n".join(lines))
            print("\n".join(lines))
            log("wrote", str(path.with_suffix(".md")))
    if not found:
        sys.exit(f"no rows of {', '.join(names)} in {out}: python -m benchmarks run SUITE makes them")


def command_line():
    """The parser."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command")
    each = commands.add_parser("run", help="measure").add_subparsers(dest="suite", required=True, metavar="SUITE")
    for name in suites.SUITES:
        module = suites.load(name)
        options(each.add_parser(name, help=module.QUESTION, description=module.__doc__), module)
    reporter = commands.add_parser("report", help="make tables and pictures")
    reporter.add_argument("suites", nargs="*", metavar="SUITE", help="all that have rows, if none is named")
    reporter.add_argument("--out", default=HERE / "results", type=Path, metavar="DIR", help="where rows are kept")
    installer = commands.add_parser("install", help="make the rivals' environments")
    installer.add_argument("--envs", default="~/.cache/convexnn-bench", metavar="DIR", help="environments of rivals")
    return parser


def main(argv=None):
    """Do what the command line says."""
    argv = sys.argv[1:] if argv is None else argv
    parser = command_line()
    args = parser.parse_args(argv)
    if args.command == "run":
        run(args, argv)
    elif args.command == "report":
        if unknown := set(args.suites) - set(suites.SUITES):
            parser.error(f"no suite {', '.join(sorted(unknown))}; there are {', '.join(suites.SUITES)}")
        report(args.suites or list(suites.SUITES), args.out)
    elif args.command == "install":
        for name in rivals.RIVALS:
            module = rivals.load(name)
            try:
                log(
                    name,
                    "runs here" if not module.PINS else ensure(module.PINS, args.envs),
                    getattr(module, "MISSING", ""),
                )
            except RuntimeError as error:
                log(name, str(error))
    else:
        print(__doc__.split("\n\n")[1] + "\n\nSuites:\n")
        for name in suites.SUITES:
            print(f"  {name:<13} {suites.load(name).QUESTION}")
        print("\nRivals:", ", ".join(rivals.RIVALS))


if __name__ == "__main__":
    main()
