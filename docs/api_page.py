"""What the API page lists, in which order. Public names find their group by the module that defines them."""

import inspect

from convexnn import export
from convexnn.losses import LOSSES
from convexnn.neurons.penalties import PENALTIES
from convexnn.solvers import SOLVERS

#: Title, one sentence, and the modules of convexnn whose public names belong there.
GROUPS = [
    (
        "Estimators",
        "scikit-learn's contract: fit, predict, certificate.",
        ["estimators.networks", "estimators.base", "estimators.feature_scales"],
    ),
    ("One feature", "Networks as linear splines; see :doc:`../guide/one_feature`.", ["univariate"]),
    (
        "Paths and the choice of alpha",
        "Many alphas at once.",
        ["estimators.path", "estimators.cross_validation", "estimators.selection"],
    ),
    ("Networks and results", "What a fit leaves behind.", ["network", "analysis.radon", "program.result"]),
    (
        "Certificates",
        "How far a network is from the best one.",
        ["proofs.certificate", "proofs.prove", "analysis.scenario"],
    ),
    ("All optimal networks", "The polytope that they form; see :doc:`../guide/sparsity`.", ["analysis.optimal_set"]),
    ("Networks trained elsewhere", "Conversion, better networks, and the report.", ["analysis.audit"]),
    ("Activation patterns", "The cells of the data's hyperplanes.", ["arrangements"]),
    ("Displays", "Pictures (they need matplotlib).", ["plots"]),
]
#: Title, one sentence, module, its dictionary, and what is listed beside that.
LISTED = [
    (
        "Export",
        "Functions of ``convexnn.export``; fitted estimators have methods ``to_sklearn`` to ``to_safetensors``.",
        "export",
        {},
        [
            name
            for name, value in vars(export).items()
            if inspect.isfunction(value) and value.__module__ == export.__name__ and not name.startswith("_")
        ],
    ),
    ("Losses", "``convexnn.losses.LOSSES``; see :doc:`../extend/loss`.", "losses", LOSSES, ["Loss", "get_loss"]),
    ("Penalties", "``convexnn.neurons.penalties.PENALTIES``.", "neurons.penalties", PENALTIES, ["Penalty"]),
    (
        "Activations",
        "``convexnn.neurons.activations.ACTIVATIONS``; see :doc:`../extend/activation`.",
        "neurons.activations",
        {},
        ["Activation", "ReLU", "LeakyReLU", "Absolute", "GatedReLU", "get_activation"],
    ),
    ("Neurons", "What all neurons of a network have in common.", "neurons.neuron", {}, ["Neuron"]),
    ("Prices", "What searches find and proofs bound.", "search.prices", {}, ["Price"]),
    ("Solvers", "``convexnn.solvers.SOLVERS``; see :doc:`../extend/solver`.", "solvers", SOLVERS, []),
    (
        "Below the estimators for one feature",
        "``convexnn.univariate``; see :doc:`../guide/one_feature`.",
        "univariate",
        {},
        ["Line", "Spline", "fit_spline", "NarrowNetwork", "NarrowFit", "fit_narrow", "narrow_dictionary"],
    ),
    ("The training problem", "What every problem over it shares.", "program.task", {}, ["Task"]),
    ("The program", "What solvers and losses meet in.", "program.problem", {}, ["Problem"]),
    ("Its linear map", "Where coefficients meet the data.", "program.design", {}, ["Design"]),
]


def group_of(module):
    """Title of the group of a module such as "convexnn.analysis.audit", None when no group has it."""
    inner = module.split(".")[1:]
    names = {".".join(inner[: k + 1]) for k in range(len(inner))}
    return next((title for title, _, modules in GROUPS if names & set(modules)), None)


def api_page(modules):
    """The page in reStructuredText, from the module that defines each public name."""
    lines = ["API reference", "=============", ""]
    for title, sentence, _ in GROUPS:
        names = [f"~convexnn.{name}" for name, module in sorted(modules.items()) if group_of(module) == title]
        lines += section(title, sentence, names)
    for title, sentence, module, dictionary, others in LISTED:
        names = others + [entry.__name__ for entry in dictionary.values()]
        lines += section(title, sentence, [f"~convexnn.{module}.{name}" for name in names])
    return "\n".join(lines) + "\n"


def section(title, sentence, names):
    """A heading, a sentence and a table of summaries; nothing without names."""
    if not names:
        return []
    table = [
        ".. autosummary::",
        "   :toctree: generated",
        "   :nosignatures:",
        "",
        *[f"   {name}" for name in names],
        "",
    ]
    return [title, "-" * len(title), "", sentence, "", *table]
