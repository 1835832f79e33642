"""Which activation patterns a fit lists: all, a sample, a list of the user's, or those that a search finds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from convexnn.arrangements import Arrangement, enumerate_patterns, sample_patterns
from convexnn.faces import with_faces
from convexnn.fits import Prepared, least_count
from convexnn.program.task import Task
from convexnn.solvers import Newton


class Listing(Protocol):
    """What the training of a problem asks of the choice of patterns."""

    def of(self, data: Prepared, solver: type, seed: int) -> Arrangement | None:
        """The list for the distinct rows of data, or None for a search over all patterns."""


@dataclass(frozen=True)
class Auto:
    """All patterns up to a number of them; else a search where there is one, and a sample where there is none."""

    n_patterns: int

    def of(self, data: Prepared, solver: type, seed: int) -> Arrangement | None:
        few = least_count(data.task.rows, self.n_patterns) <= self.n_patterns
        searched = data.task.neuron.activation.cones and solver is Newton
        if few:
            try:
                return Exact().of(data, solver, seed)
            except ValueError:
                # Cells too thin to be listed; a search and a sample need no list.
                pass
        return None if searched else Sampled(self.n_patterns).of(data, solver, seed)


@dataclass(frozen=True)
class Exact:
    """All patterns; ValueError where they are too many or too thin to be listed."""

    def of(self, data: Prepared, solver: type, seed: int) -> Arrangement:
        return every_pattern(data.task)


@dataclass(frozen=True)
class Sampled:
    """Those of random gates, so many."""

    n_patterns: int

    def of(self, data: Prepared, solver: type, seed: int) -> Arrangement:
        return sample_patterns(data.task.rows, self.n_patterns, random_state=seed)


@dataclass(frozen=True)
class Adaptive:
    """Those that a search over all patterns finds."""

    def of(self, data: Prepared, solver: type, seed: int) -> None:
        if not data.task.neuron.activation.cones:
            raise ValueError(
                "patterns='adaptive' needs an activation without gates, got 'gated_relu': gates have no best direction."
            )


@dataclass(frozen=True, eq=False)
class Given:
    """A list for the rows of a fit, those of weight zero included; ValueError for one of other data."""

    arrangement: Arrangement

    def of(self, data: Prepared, solver: type, seed: int) -> Arrangement:
        given, neuron = self.arrangement, data.task.neuron
        whole = neuron.rows(data.sample.X)
        if given.n_samples != len(whole) or len(given.gates) != whole.shape[1]:
            raise ValueError(
                f"patterns must be an Arrangement of {len(whole)} samples and {whole.shape[1]} gate rows (the features "
                f"and, unless hidden_bias='none', a ones column), got one of {given.n_samples} samples and "
                f"{len(given.gates)} gate rows."
            )
        if not given.belongs_to(whole):
            raise ValueError(
                "patterns must be an Arrangement of the X of this fit, got one of other data: its gates do not "
                "give its patterns on X, or it is complete for another X."
            )
        return given.rows(data.first, data.task.rows)


#: What the option ``patterns`` can be called; those that draw or count take ``n_patterns``.
LISTINGS = {"auto": Auto, "exact": Exact, "sampled": Sampled, "adaptive": Adaptive}


def listing_of(patterns: str | Arrangement, n_patterns: int) -> Listing:
    """The choice of patterns that an option describes: a key of LISTINGS, or a list."""
    if isinstance(patterns, Arrangement):
        return Given(patterns)
    kind = LISTINGS[patterns]
    return kind(n_patterns) if kind in (Auto, Sampled) else kind()


def every_pattern(task: Task) -> Arrangement:
    """The complete list of patterns, and for gates without a bias those of gates on hyperplanes."""
    listed = enumerate_patterns(task.rows)
    if not task.neuron.activation.cones and not task.neuron.has_bias:
        # Gates are open on their hyperplane: some patterns are those of gates on it alone.
        listed = with_faces(task.rows, listed)
    return listed
