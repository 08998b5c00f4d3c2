"""The claims lab: what popular texts say of batch norm, put to the test.

Each claim is a module: its words, where it is published, the hypothesis, metric and thresholds, the experiment, and
the rule that turns numbers into a verdict. ``python -m bncourse.claims ID`` runs one; ``make claims`` runs all, into
``book/results/claims.json``, which the chapters draw.

    entry = load("depth")
    entry.verdict.verdict
    entry.findings["batch norm, 51 layers", "test accuracy (%)"].low
"""

from importlib import import_module

from bncourse.claims.claim import Claim
from bncourse.claims.record import Entry, load

MODULES = (
    "batch_size",
    "causality",
    "covariate_shift",
    "depth",
    "learning_rate",
    "placement",
    "sequences",
    "transformer",
)
CLAIMS: dict[str, Claim] = {name: import_module(f"bncourse.claims.{name}").CLAIM for name in MODULES}

__all__ = ["CLAIMS", "Claim", "Entry", "load"]
