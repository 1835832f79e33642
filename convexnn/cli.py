"""Command line: ``convexnn fit``, ``path``, ``predict``, ``audit`` and ``export``."""

from __future__ import annotations

import argparse
import csv
import gzip
import hashlib
import os
import sys
import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from time import perf_counter

import joblib
import numpy as np
from scipy.special import expit, softmax
from sklearn import datasets
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import KFold, StratifiedKFold, train_test_split
from sklearn.preprocessing import StandardScaler

from convexnn.analysis.audit import audit, network_in
from convexnn.estimators.cross_validation import ConvexReLUClassifierCV, ConvexReLURegressorCV
from convexnn.estimators.feature_scales import FeatureScaleWarning
from convexnn.estimators.networks import ConvexReLUClassifier, ConvexReLURegressor
from convexnn.estimators.path import relu_path
from convexnn.export import PROBABILISTIC, save_safetensors, to_onnx, to_sklearn, to_torch
from convexnn.files import check_writable, read_arrays, replacing
from convexnn.fits import how_it_ended
from convexnn.losses import LOSSES, get_loss
from convexnn.network import Network
from convexnn.neurons.activations import ACTIVATIONS
from convexnn.program.result import relative_gap
from convexnn.solvers import SOLVERS

#: File extension of each format of ``export``.
FORMATS = {"sklearn": ".joblib", "torch": ".pt", "onnx": ".onnx", "safetensors": ".safetensors"}
BUNDLED = ("breast_cancer", "diabetes", "digits", "iris", "linnerud", "wine")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Parameters
    ----------
    argv : sequence of str, optional
        Arguments without the program name; by default those of the process.

    Returns
    -------
    code : int
        0, or 2 after an error, which is told in one line on standard error; 130 after Ctrl-C outside a fit.
    """
    parser = _parser()
    arguments = parser.parse_args(argv)
    try:
        arguments.run(arguments)
        sys.stdout.flush()
    except BrokenPipeError:
        # The reader, such as head, has seen enough: what is left in the buffer goes nowhere.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except (ValueError, OSError, ImportError) as error:
        text = " ".join(str(error).split())
        print(f"convexnn: error: {text}", file=sys.stderr)
        return 2
    except MemoryError as error:
        what = " ".join(str(error).split()) or "too little of it"
        print(f"convexnn: error: out of memory ({what}); try fewer rows, or fewer --n-patterns", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("convexnn: interrupted", file=sys.stderr)
        return 130
    return 0


class _Parser(argparse.ArgumentParser):
    """argparse without the usage lines in front of an error: errors are one line."""

    def error(self, message):
        print(f"{self.prog}: error: {message} (see {self.prog} --help)", file=sys.stderr)
        raise SystemExit(2)


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="convexnn", description="Two-layer ReLU networks trained as convex programs.")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    _fit_options(commands)
    _path_options(commands)
    _predict_options(commands)
    _audit_options(commands)
    _export_options(commands)
    return parser


def _fit_options(commands) -> None:
    command = commands.add_parser("fit", help="train a network on a data set and report how close to optimal it is")
    command.set_defaults(run=_fit)
    command.add_argument("data", metavar="DATA", help=f"FILE.csv or FILE.csv.gz, or one of {', '.join(BUNDLED)}")
    command.add_argument("--target", metavar="COLUMN", help="name of the target column of a file")
    command.add_argument("--task", choices=["auto", "regression", "classification"], default="auto")
    command.add_argument(
        "--alpha",
        default="auto",
        help="weight decay on the sum of losses, auto (default: a share of alpha_max), or cv: 5-fold cross-validation",
    )
    command.add_argument("--loss", choices=sorted(LOSSES), help="default: squared or log_loss")
    command.add_argument("--activation", choices=sorted(ACTIVATIONS), default="relu")
    command.add_argument("--patterns", choices=["auto", "adaptive", "exact", "sampled"], default="auto")
    command.add_argument("--n-patterns", type=int, default=1000, metavar="N")
    command.add_argument("--solver", choices=["auto", *sorted(SOLVERS)], default="auto")
    command.add_argument("--hidden-bias", choices=["penalized", "free", "none"], default="penalized")
    command.add_argument("--no-intercept", action="store_true", help="no unpenalised output bias")
    command.add_argument("--skip-connection", action="store_true", help="add an unpenalised linear term")
    command.add_argument(
        "--feature-penalty", type=float, default=0.0, metavar="MU", help="leave features out: 0.3 to 3, more and more"
    )
    command.add_argument("--tol", type=float, default=1e-4, help="relative duality gap to stop at (default: 1e-4)")
    command.add_argument("--max-iter", type=int, default=20_000, metavar="N")
    command.add_argument("--max-time", type=float, metavar="SECONDS")
    command.add_argument("--init", metavar="MODEL.npz", help="start from a saved network of the same features")
    command.add_argument(
        "--certify",
        choices=["auto", "yes", "no"],
        default="auto",
        help="prove a bound over all networks of any width: yes within --max-time or a minute, auto if that is quick",
    )
    command.add_argument("--test-share", type=float, default=0.2, help="rows kept for the test score (default: 0.2)")
    command.add_argument("--no-standardize", action="store_true", help="use the features as they are")
    command.add_argument("--seed", type=int, default=0, help="of the split and of sampled patterns (default: 0)")
    command.add_argument("--out", metavar="MODEL.npz", help="where to save the network; it takes raw features")
    command.add_argument("--quiet", action="store_true", help="no progress line")


def _path_options(commands) -> None:
    command = commands.add_parser("path", help="train networks for a decreasing sequence of weight decays")
    command.set_defaults(run=_path)
    command.add_argument("data", metavar="DATA", help="a file or a bundled set, as for fit; all rows are used")
    command.add_argument("--target", metavar="COLUMN", help="name of the target column of a file")
    command.add_argument("--task", choices=["auto", "regression", "classification"], default="auto")
    command.add_argument("--alphas", type=int, default=30, metavar="N", help="how many weight decays (default: 30)")
    command.add_argument("--eps", type=float, default=1e-2, help="the last one in units of alpha_max (default: 0.01)")
    command.add_argument("--loss", choices=sorted(LOSSES), help="default: squared or log_loss")
    command.add_argument("--hidden-bias", choices=["penalized", "free", "none"], default="penalized")
    command.add_argument("--skip-connection", action="store_true", help="add an unpenalised linear term")
    command.add_argument(
        "--feature-penalty", type=float, default=0.0, metavar="MU", help="leave features out, as for fit"
    )
    command.add_argument("--tol", type=float, default=1e-3, help="relative gap of each fit (default: 1e-3)")
    command.add_argument("--max-time", type=float, metavar="SECONDS", help="limit for the whole path")
    command.add_argument("--seed", type=int, default=0, help="of the searches (default: 0)")
    command.add_argument("--out", metavar="FILE.csv", help="where to write the table too")
    command.add_argument("--plot", metavar="FILE.png", help="where to draw the path (needs matplotlib)")
    command.add_argument("--quiet", action="store_true", help="no progress line")


def _predict_options(commands) -> None:
    command = commands.add_parser("predict", help="apply a saved network to a file")
    command.set_defaults(run=_predict)
    command.add_argument("model", metavar="MODEL.npz")
    command.add_argument("data", metavar="FILE.csv")
    command.add_argument("--proba", action="store_true", help="class probabilities instead of labels")
    command.add_argument("--out", metavar="FILE.csv", help="where to write (default: standard output)")


def _audit_options(commands) -> None:
    command = commands.add_parser("audit", help="report how far a trained network is from the best one")
    command.set_defaults(run=_audit)
    command.add_argument(
        "model", metavar="MODEL.npz", help="saved by fit, or arrays W1, b1, W2, b2 in the shapes of scikit-learn"
    )
    command.add_argument("data", metavar="DATA", help="the training data: a file or a bundled set, as for fit")
    command.add_argument("--target", metavar="COLUMN", help="name of the target column of a file")
    command.add_argument("--alpha", type=float, help="weight decay on the sum of losses (default: the model's)")
    command.add_argument(
        "--loss", choices=sorted(LOSSES), help="default: the model's, else log_loss for several outputs"
    )
    command.add_argument("--hidden-bias", choices=["penalized", "free", "none"], help="default: the model's")
    command.add_argument("--improve", action="store_true", help="search all activation patterns for a better network")
    command.add_argument("--no-certify", action="store_true", help="no proof of a lower bound")
    command.add_argument("--tol", type=float, default=1e-6, help="relative gap of polishing and search (default: 1e-6)")
    command.add_argument("--max-time", type=float, metavar="SECONDS", help="limit, shared by all that is done")
    command.add_argument("--seed", type=int, default=0, help="of the search (default: 0)")
    command.add_argument("--out", metavar="POLISHED.npz", help="where to save the best network found")


def _export_options(commands) -> None:
    command = commands.add_parser("export", help="write a saved network for other software; it takes raw features")
    command.set_defaults(run=_export)
    command.add_argument("model", metavar="MODEL.npz", help="saved by fit or audit, or arrays as for audit")
    command.add_argument("--out", metavar="FILE", required=True, help="where to write")
    command.add_argument(
        "--to",
        choices=list(FORMATS),
        help="a pickled MLPRegressor or MLPClassifier (.joblib), the state_dict of a torch Sequential (.pt), ONNX with "
        "the certificate in its metadata (.onnx), or weights with the same (.safetensors); default: by FILE's ending",
    )
    command.add_argument("--dtype", choices=["float64", "float32"], help="of torch and onnx (default: float64)")


def _checked_task(arguments: argparse.Namespace, y) -> str:
    """The task, by the target where it is not given; ValueError for what does not go with it."""
    task = _task(y) if arguments.task == "auto" else arguments.task
    if task == "regression" and y.dtype.kind not in "if":
        raise ValueError(f"target must be numeric for --task regression, got text such as {str(y[0])!r}.")
    if arguments.seed < 0:
        raise ValueError(f"--seed must be at least 0, got {arguments.seed}.")
    return task


def _fit(arguments: argparse.Namespace) -> None:
    start = perf_counter()
    X, y, features = _load(arguments.data, arguments.target)
    task = _checked_task(arguments, y)
    if arguments.out:
        # Before the work rather than after it.
        check_writable(arguments.out)
    alpha = _alpha(arguments)
    train, test = _split(arguments, y, task)
    scaler = StandardScaler(with_mean=not arguments.no_standardize, with_std=not arguments.no_standardize).fit(X[train])
    mean = np.zeros(X.shape[1]) if scaler.mean_ is None else scaler.mean_
    scale = np.ones(X.shape[1]) if scaler.scale_ is None else scaler.scale_
    model = _estimator(arguments, task, alpha, _init(arguments, X.shape[1], mean, scale))
    with warnings.catch_warnings(record=True) as caught:
        for kind in (ConvergenceWarning, FeatureScaleWarning):
            warnings.simplefilter("always", kind)
        model.fit(scaler.transform(X[train]), y[train])
    scores = [f"train {model.score(scaler.transform(X[train]), y[train]):.4f} ({len(train)} rows)"]
    if len(test) > 1 or (len(test) and task == "classification"):
        scores.append(f"test {model.score(scaler.transform(X[test]), y[test]):.4f} ({len(test)} rows)")
    print(f"data            {arguments.data}: {len(y)} rows, {X.shape[1]} features, {task}")
    _report(model, f"{'R2' if task == 'regression' else 'accuracy':<15} {', '.join(scores)}")
    print(f"time            {perf_counter() - start:.2f} s, {model.n_iter_} iterations, {model.result_.status}")
    for warning in caught:
        print(f"note            {warning.message}")
    if arguments.out:
        _save(arguments.out, model, mean, scale, features, task, data_hash=_data_hash(X, y), train_rows=train)
        print(f"saved           {arguments.out}")


def _alpha(arguments: argparse.Namespace) -> float | str:
    """The weight decay that is asked for: a number, "auto" or "cv"."""
    alpha = arguments.alpha
    if alpha == "cv" and arguments.init:
        raise ValueError("--init is for one alpha: it cannot be given with --alpha cv, whose paths start from nothing.")
    if alpha in ("auto", "cv"):
        return alpha
    try:
        return float(alpha)
    except ValueError:
        raise ValueError(f"--alpha must be a number > 0, 'auto' or 'cv', got {alpha!r}.") from None


def _split(arguments: argparse.Namespace, y, task: str):
    """Rows to train on, and rows for the test score."""
    if not 0 <= arguments.test_share < 1:
        raise ValueError(f"--test-share must be at least 0 and below 1, got {arguments.test_share}.")
    if arguments.test_share == 0:
        return np.arange(len(y)), np.arange(0)
    n_test = int(np.ceil(arguments.test_share * len(y)))
    if n_test >= len(y):
        raise ValueError(f"--test-share {arguments.test_share} leaves no row of {len(y)} to train on.")
    counts = np.unique(y, return_counts=True)[1] if task == "classification" else np.array([1])
    stratify = y if counts.min() > 1 and len(counts) <= min(n_test, len(y) - n_test) else None
    return train_test_split(np.arange(len(y)), test_size=n_test, random_state=arguments.seed, stratify=stratify)


def _init(arguments: argparse.Namespace, n_features: int, mean, scale) -> Network | None:
    """The network to start from, for standardised features."""
    if not arguments.init:
        return None
    init = Network.load(arguments.init)
    if init.hidden_weights.shape[1] != n_features:
        raise ValueError(
            f"--init must be a network of {n_features} features, got one of {init.hidden_weights.shape[1]}."
        )
    # Saved networks take raw features.
    return init.for_raw_inputs(-mean / scale, 1 / scale)


def _estimator(arguments: argparse.Namespace, task: str, alpha: float | str, init: Network | None):
    """The estimator of a fit, with the options of the command line."""
    options = dict(loss=arguments.loss) if arguments.loss else {}
    estimator: type
    if alpha == "cv":
        estimator = ConvexReLURegressorCV if task == "regression" else ConvexReLUClassifierCV
        # Rows of a file may be sorted.
        folds = KFold if task == "regression" else StratifiedKFold
        options |= dict(cv=folds(5, shuffle=True, random_state=arguments.seed))
    else:
        estimator = ConvexReLURegressor if task == "regression" else ConvexReLUClassifier
        options |= dict(alpha=alpha, init=init)
    return estimator(
        activation=arguments.activation,
        patterns=arguments.patterns,
        n_patterns=arguments.n_patterns,
        solver=arguments.solver,
        fit_intercept=not arguments.no_intercept,
        hidden_bias=arguments.hidden_bias,
        skip_connection=arguments.skip_connection,
        feature_penalty=arguments.feature_penalty,
        tol=arguments.tol,
        max_iter=arguments.max_iter,
        max_time=arguments.max_time,
        certify={"auto": "auto", "yes": True, "no": False}[arguments.certify],
        random_state=arguments.seed,
        verbose=0 if arguments.quiet else 1,
        **options,
    )


def _report(model, scores: str) -> None:
    """What a fit found, and how good it is."""
    certificate, listed = model.certificate_, model.arrangement_
    share = model.alpha_ / model.alpha_max_ if model.alpha_max_ > 0 else np.inf
    how = f", chosen of {len(model.alphas_)} by cross-validation" if hasattr(model, "alphas_") else ""
    print(f"alpha           {model.alpha_:.6g} ({share:.3g} of alpha_max{how})")
    listed_how = "all there are" if listed.complete else "found by search" if certificate.n_searched else "sampled"
    print(f"patterns        {listed.n_patterns:,} listed, {listed_how}")
    print(f"neurons         {model.network_.n_neurons}")
    print(f"objective       {certificate.objective:.8g}")
    print(f"lower bound     {certificate.lower_bound:.8g}")
    print(f"relative gap    {certificate.stated_gap:.2e}, scope: {certificate.scope}")
    print(f"certificate     {certificate}")
    print(scores)
    print(f"ended           {how_it_ended(model.result_, certificate)}")


def _path(arguments: argparse.Namespace) -> None:
    start = perf_counter()
    X, y, _ = _load(arguments.data, arguments.target)
    task = _checked_task(arguments, y)
    for name in (arguments.out, arguments.plot):
        if name:
            # Before the work rather than after it.
            check_writable(name)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", ConvergenceWarning)
        path = relu_path(
            StandardScaler().fit_transform(X),
            y,
            alphas=arguments.alphas,
            eps=arguments.eps,
            loss=arguments.loss or ("squared" if task == "regression" else "log_loss"),
            hidden_bias=arguments.hidden_bias,
            skip_connection=arguments.skip_connection,
            feature_penalty=arguments.feature_penalty,
            tol=arguments.tol,
            max_time=arguments.max_time,
            random_state=arguments.seed,
            verbose=0 if arguments.quiet else 1,
        )
    names = ("alpha", "share", "neurons", "objective", "lower_bound", "relative_gap", "scope", "status")
    share = path.alphas / path.alpha_max if path.alpha_max > 0 else np.full(len(path.alphas), np.inf)
    scopes = [certificate.scope for certificate in path.certificates]
    statuses = [result.status for result in path.results]
    columns = (path.alphas, share, path.n_neurons, path.objectives, path.lower_bounds, path.relative_gaps)
    table = list(zip(*columns, scopes, statuses))
    print(f"{'alpha':>12} {'share':>8} {'neurons':>8} {'objective':>14} {'relative gap':>13}")
    for alpha, part, neurons, objective, _, gap, _, _ in table:
        print(f"{alpha:12.6g} {part:8.4f} {neurons:8d} {objective:14.8g} {gap:13.1e}")
    print(f"time {perf_counter() - start:.2f} s")
    for warning in caught:
        print(f"note {warning.message}")
    if arguments.out:
        with replacing(arguments.out, text=True) as file:
            csv.writer(file).writerows([names, *table])
        print(f"saved {arguments.out}")
    if arguments.plot:
        with replacing(arguments.plot) as file:
            ending = Path(arguments.plot).suffix[1:]
            path.plot().figure_.savefig(file, format=ending or "png", bbox_inches="tight")
        print(f"drawn {arguments.plot}")


def _data_hash(X, y) -> str:
    """A digest of data, by which those that trained a model are known again."""
    return hashlib.sha256(np.ascontiguousarray(X).tobytes() + np.ascontiguousarray(y).tobytes()).hexdigest()


def _save(path, model, mean, scale, features, task, **rows) -> None:
    """The network for raw features, with what is known of it and the rows that trained it."""
    certificate = model.certificate_
    extra = dict(
        task=task,
        loss=model.loss if isinstance(model.loss, str) else model.loss.name,
        feature_names=np.array(features, dtype=str),
        feature_mean=mean,
        feature_scale=scale,
        alpha=model.alpha_,
        objective=certificate.objective,
        lower_bound=certificate.lower_bound,
        scope=certificate.scope,
        method=certificate.method,
        certificate=str(certificate),
        **rows,
    )
    if task == "classification":
        extra["classes"] = model.classes_
    with replacing(path) as file:
        model.network_.for_raw_inputs(mean, scale).save(file, **extra)


def _audit(arguments: argparse.Namespace) -> None:
    start = perf_counter()
    if arguments.seed < 0:
        raise ValueError(f"--seed must be at least 0, got {arguments.seed}.")
    network, extra = _model(arguments.model)
    X, y, features = _load(arguments.data, arguments.target)
    if "feature_names" in extra:
        wanted = extra["feature_names"].tolist()
        missing = [name for name in wanted if name not in features]
        if missing:
            raise ValueError(f"{arguments.data} lacks the columns {missing[:5]} that the network was trained on.")
        X = X[:, [features.index(name) for name in wanted]]
    if X.shape[1] != network.hidden_weights.shape[1]:
        raise ValueError(
            f"{arguments.data} must have {network.hidden_weights.shape[1]} features for this model, got {X.shape[1]}."
        )
    if arguments.alpha is None and "alpha" not in extra:
        raise ValueError(f"--alpha must be given: {arguments.model} does not say it.")
    alpha = extra["alpha"] if arguments.alpha is None else arguments.alpha
    n_rows = len(y)
    trained, said = _trained(extra, X, y)
    X, y = X[trained], y[trained]
    loss = arguments.loss or extra.get("loss")
    mean, scale = extra.get("feature_mean", np.zeros(X.shape[1])), extra.get("feature_scale", np.ones(X.shape[1]))
    standardised = network.for_raw_inputs(-mean / scale, 1 / scale)
    if arguments.hidden_bias == "none":
        # Undoing a shift of the features leaves rounding where biases were.
        rounding = 1e-12 * np.abs(network.hidden_weights) @ np.abs(mean)
        biases = np.where(np.abs(standardised.hidden_biases) <= rounding, 0.0, standardised.hidden_biases)
        standardised = replace(standardised, hidden_biases=biases)
    if arguments.out:
        # Before the work rather than after it.
        check_writable(arguments.out)
    report = audit(
        standardised,
        (X - mean) / scale,
        _labels(y, extra["classes"]) if "classes" in extra else y,
        alpha,
        loss=loss,
        hidden_bias=arguments.hidden_bias,
        improve=arguments.improve,
        certify=not arguments.no_certify,
        tol=arguments.tol,
        max_time=arguments.max_time,
        random_state=arguments.seed,
    )
    print(f"data            {arguments.data}: {n_rows} rows, {X.shape[1]} features")
    print(f"rows            {said}")
    print(f"alpha           {alpha:.6g}")
    print(report)
    print(f"time            {perf_counter() - start:.2f} s")
    if arguments.out:
        _save_audited(arguments.out, report, extra, alpha, loss, mean, scale)
        print(f"saved           {arguments.out}")


def _labels(y, classes):
    """Class labels as -1 / +1, or class indices for more than two classes."""
    unknown = np.setdiff1d(y, classes)
    if len(unknown):
        raise ValueError(f"target must hold the classes {classes[:10].tolist()}, got {unknown[:5].tolist()}.")
    code = np.searchsorted(classes, y)
    return code if len(classes) > 2 else 2.0 * code - 1.0


def _save_audited(path, report, extra, alpha, loss, mean, scale):
    """The best network found, with what the file of the given one said about the data."""
    best, objective = report.polished, report.polished_objective
    if report.improved is not None and report.improved_objective is not None:
        best, objective = report.improved, report.improved_objective
    about = ("task", "feature_names", "feature_mean", "feature_scale", "classes", "data_hash", "train_rows")
    kept = {name: extra[name] for name in about if name in extra} | ({} if loss is None else {"loss": loss})
    kept |= dict(alpha=alpha, objective=objective, lower_bound=-np.inf, scope="none")
    if report.lower_bound is not None:
        kept |= dict(lower_bound=report.lower_bound, scope="global", method=report.certificate.method)
    with replacing(path) as file:
        best.for_raw_inputs(mean, scale).save(file, **kept)


def _trained(extra, X, y):
    """The rows to audit, and in words which they are: those that trained the model where its file knows them again."""
    rows = extra.get("train_rows")
    if rows is None or "data_hash" not in extra:
        return slice(None), f"all {len(y)}; the model does not say which rows trained it"
    if extra["data_hash"] != _data_hash(X, y) or rows.max() >= len(y):
        return slice(None), f"all {len(y)}; they are not the data that the model was made from"
    return rows, f"{len(rows)} of {len(y)}, those that trained the model"


def _model(path):
    """The network of a file, and what else the file says, checked; ValueError that names the file."""
    arrays = read_arrays(path)
    network = network_in(arrays, path)
    d, n_classes = network.hidden_weights.shape[1], max(network.n_outputs, 2)
    # Shape, kinds of NumPy's dtypes, and what the values must be.
    number, text = ((), "iuf", lambda value: value == value), ((), "U", lambda value: True)
    layout: dict[str, tuple[tuple, str, Callable]] = dict.fromkeys(("alpha", "objective", "lower_bound"), number)
    layout |= dict.fromkeys(("task", "scope", "method", "certificate", "data_hash"), text)
    layout |= dict(
        loss=((), "U", LOSSES.__contains__),
        feature_names=((d,), "U", lambda names: True),
        feature_mean=((d,), "iuf", lambda mean: np.isfinite(mean).all()),
        feature_scale=((d,), "iuf", lambda scale: np.isfinite(scale).all() and scale.min() > 0),
        classes=((n_classes,), "biufU", lambda classes: np.array_equal(np.unique(classes), classes)),
        train_rows=((np.size(arrays.get("train_rows", 0)),), "iu", lambda rows: rows.size and rows.min() >= 0),
    )
    facts = {}
    for name in layout.keys() & arrays.keys():
        shape, kinds, sound = layout[name]
        array = arrays[name]
        fits = array.shape == shape and array.dtype.kind in kinds
        facts[name] = array if shape else array.item() if fits else None
        if not (fits and sound(facts[name])):
            got = f"{' '.join(repr(array).split())[:80]}, of shape {array.shape} and dtype {array.dtype}"
            raise ValueError(f"{path} is no saved model: {name} cannot be {got}; save the model again.")
    return network, facts


def _export(arguments: argparse.Namespace) -> None:
    (network, extra), out = _model(arguments.model), arguments.out
    by_ending = {ending: name for name, ending in FORMATS.items()}
    to = arguments.to or by_ending.get(Path(out).suffix)
    if to is None:
        raise ValueError(f"--to must be given, one of {', '.join(FORMATS)}: the ending of {out!r} does not say it.")
    if arguments.dtype and to not in ("torch", "onnx"):
        raise ValueError(f"--dtype is for torch and onnx, got {arguments.dtype} for {to}, which is in float64.")
    dtype = arguments.dtype or "float64"
    task = {name: extra[name] for name in ("classes", "feature_names") if name in extra}
    task["loss"] = get_loss(extra["loss"], network.n_outputs) if "loss" in extra else None
    stated = ("alpha", "objective", "lower_bound", "scope", "method", "certificate")
    facts = {name: extra[name] for name in stated if name in extra}
    if {"objective", "lower_bound"} <= set(facts):
        facts["relative_gap"] = relative_gap(facts["objective"], facts["lower_bound"])
    if to == "sklearn":
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", UserWarning)
            mlp = to_sklearn(network, **task, **({"alpha": facts["alpha"]} if "alpha" in facts else {}))
        with replacing(out) as file:
            joblib.dump(mlp, file)
        load = ["import joblib", f"model = joblib.load({out!r})"]
        for warning in caught:
            print(f"note            {warning.message}")
    elif to == "torch":
        module = to_torch(network, dtype=dtype)
        import torch

        with replacing(out) as file:
            torch.save(module.state_dict(), file)
        (width, d), k = module[0].weight.shape, module[2].out_features
        load = [
            "import torch",
            f"layers = torch.nn.Linear({d}, {width}), torch.nn.ReLU(), torch.nn.Linear({width}, {k})",
            f"model = torch.nn.Sequential(*layers).to(torch.{dtype})",
            f"model.load_state_dict(torch.load({out!r}, weights_only=True))",
        ]
    elif to == "onnx":
        to_onnx(network, out, dtype=dtype, **task, **facts)
        load = ["import onnxruntime", f"model = onnxruntime.InferenceSession({out!r})"]
    else:
        save_safetensors(network, out, **task, **facts)
        load = ["from convexnn.export import load_safetensors", f"model = load_safetensors({out!r})"]
    print(f"network         {network}")
    print(f"saved           {out}")
    print("load with       " + "\n                ".join(load))


def _predict(arguments: argparse.Namespace) -> None:
    network, extra = _model(arguments.model)
    features = extra["feature_names"].tolist() if "feature_names" in extra else None
    names, columns, lines = _read(arguments.data)
    if features is None:
        features = names
    missing = [name for name in features if name not in names]
    if missing:
        raise ValueError(f"{arguments.data} lacks the columns {missing[:5]} that the network was trained on.")
    scores = network.predict(_numbers(arguments.data, features, names, columns, lines))
    header, table = ["prediction"], [scores.tolist()]
    if "classes" in extra:
        classes = extra["classes"]
        labels = scores.argmax(axis=1) if scores.ndim > 1 else (scores > 0).astype(int)
        table = [classes[labels].tolist()]
        if arguments.proba:
            if extra.get("loss") not in PROBABILISTIC:
                raise ValueError(f"--proba needs a network trained with the log loss, got {extra.get('loss')}.")
            p = softmax(scores, axis=1) if scores.ndim > 1 else np.column_stack([expit(-scores), expit(scores)])
            header += [f"probability_{label}" for label in classes.tolist()]
            table += p.T.tolist()
    elif arguments.proba:
        raise ValueError("--proba needs a classification network.")
    elif scores.ndim > 1:
        header, table = [f"output_{k}" for k in range(scores.shape[1])], scores.T.tolist()
    if arguments.out:
        with replacing(arguments.out, text=True) as file:
            csv.writer(file).writerows([header, *zip(*table)])
    else:
        csv.writer(sys.stdout, lineterminator="\n").writerows([header, *zip(*table)])


def _load(name: str, target: str | None):
    """Features (n, d), targets (n,) and feature names of a bundled set or a file."""
    if name in BUNDLED:
        return _load_bundled(name, target)
    if not Path(name).exists():
        raise ValueError(f"DATA must be a file or one of {', '.join(BUNDLED)}, got {name!r}, which does not exist.")
    names, columns, lines = _read(name)
    if target is None:
        raise ValueError(f"--target must name the target column of {name}: one of {', '.join(names[:20])}.")
    if target not in names:
        raise ValueError(f"--target must be a column of {name}, one of {', '.join(names[:20])}, got {target!r}.")
    features = [feature for feature in names if feature != target]
    if not features:
        raise ValueError(f"{name} must have at least one column beside the target {target!r}.")
    y = np.array(columns[names.index(target)])
    if np.any(np.char.strip(y) == ""):
        raise ValueError(f"target {target!r} of {name} has empty cells; drop those rows first.")
    try:
        y = y.astype(float)
        if np.all(y == np.floor(y)) and np.abs(y).max() < 2**53:
            y = y.astype(int)
    except ValueError:
        pass
    return _numbers(name, features, names, columns, lines), y, features


def _load_bundled(name: str, target: str | None):
    """The same of a set that comes with scikit-learn."""
    bunch = getattr(datasets, f"load_{name}")()
    features = [str(feature) for feature in bunch.feature_names]
    X, y = np.asarray(bunch.data, dtype=float), np.asarray(bunch.target)
    if y.ndim > 1:
        names = [str(column) for column in bunch.target_names]
        if target not in names:
            raise ValueError(f"{name} has several targets: --target must be one of {names}, got {target!r}.")
        return X, y[:, names.index(target)], features
    if target is not None:
        raise ValueError(f"--target is for files; the bundled set {name} has one target, got {target!r}.")
    return X, y, features


def _read(path: str) -> tuple[list[str], list[tuple[str, ...]], list[int]]:
    """Column names, columns as text, and line numbers of the rows, of a CSV file with a header row."""
    opened = gzip.open if str(path).endswith(".gz") else open
    try:
        with opened(path, "rt", newline="", encoding="utf-8-sig") as file:
            reader = csv.reader(file)
            rows = [(reader.line_num, row) for row in reader if row]
    except (UnicodeDecodeError, csv.Error, EOFError, gzip.BadGzipFile) as error:
        raise ValueError(f"{path} must be a CSV file in UTF-8, gzipped if it ends in .gz: {error}") from None
    if len(rows) < 2:
        raise ValueError(f"{path} must have a header row and at least one row of data, got {len(rows)} rows.")
    names = [name.strip() for name in rows[0][1]]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f"{path} must have a different name for every column, got {twice[:5]} more than once.")
    for line, row in rows:
        if len(row) != len(names):
            raise ValueError(f"{path} must have {len(names)} cells in every row, got {len(row)} in row {line}.")
    return names, list(zip(*(row for _, row in rows[1:]))), [line for line, _ in rows[1:]]


def _numbers(path, features, names, columns, lines):
    """The feature columns as a finite float matrix."""
    X = np.empty((len(columns[0]), len(features)))
    for k, name in enumerate(features):
        column = columns[names.index(name)]
        try:
            X[:, k] = column
        except ValueError:
            for line, cell in zip(lines, column):
                try:
                    float(cell)
                except ValueError:
                    raise ValueError(
                        f"column {name!r} of {path} must be numeric, got {cell!r} in row {line}; encode or drop it."
                    ) from None
        if not np.isfinite(X[:, k]).all():
            raise ValueError(f"column {name!r} of {path} must be finite, got NaN or infinity; drop those rows.")
    return X


def _task(y) -> str:
    """Classification for text and for whole numbers of at most 20 kinds, else regression."""
    text, whole = y.dtype.kind in "US", y.dtype.kind not in "f"
    return "classification" if text or (whole and len(np.unique(y)) <= 20) else "regression"
