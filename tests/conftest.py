"""What every test shares: the Hypothesis profiles.

HYPOTHESIS_PROFILE chooses one: `default`; `ci`, which tries the same examples each time and is chosen when CI is set;
`thorough`, for a search that may take long.
"""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings

# Two busy cores make any single example slow now and then; pytest-timeout bounds the whole test instead.
_PATIENT = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])

settings.register_profile("default", parent=_PATIENT, max_examples=100)
settings.register_profile("ci", parent=_PATIENT, max_examples=100, derandomize=True, database=None, print_blob=True)
settings.register_profile("thorough", parent=_PATIENT, max_examples=2000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE") or ("ci" if os.environ.get("CI") else "default"))
