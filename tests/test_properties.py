"""Properties: drawn cases that try to make a certificate false, judged by an oracle that shares no code."""

import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

ROOT = Path(__file__).parent.parent
if not (ROOT / "benchmarks" / "attack.py").exists():
    pytest.skip("benchmarks are in the checkout only", allow_module_level=True)
sys.path.insert(0, str(ROOT))

from benchmarks.attack import INGREDIENTS, Case, examine  # noqa: E402

cases = st.builds(Case.of, st.integers(0, 2**32 - 1), **{k: st.sampled_from(v) for k, v in INGREDIENTS.items()})
# The same cases on every machine: the command of benchmarks/attack.py draws others.
drawn = settings(
    max_examples=300, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck)
)


def wrong(case, kind):
    """What is wrong with a case; a refusal that names an argument is not."""
    return [words for found, words in examine(case, [kind]) if found != "refused"]


@drawn
@given(cases)
def test_no_bound_is_above_a_network(case):
    assert wrong(case, "bounds") == []
