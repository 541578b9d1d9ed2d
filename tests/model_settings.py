"""How long state machines run: some seconds, or for `make soak` far longer."""

from __future__ import annotations

import os

from hypothesis import settings

STEPS_PER_STORY = 50
# Hypothesis takes a few less than it may.
STEPS = int(os.environ.get("SOAK_STEPS", "11000"))

MODEL = settings(
    max_examples=STEPS // STEPS_PER_STORY,
    stateful_step_count=STEPS_PER_STORY,
    # The same stories each time, unless there is time for many others.
    derandomize=STEPS < 100_000,
    database=None,
)

# For tests of one value at a time.
EXAMPLES = int(os.environ.get("SOAK_EXAMPLES", "60"))

VALUES = settings(
    max_examples=EXAMPLES, deadline=None, derandomize=EXAMPLES < 1000, database=None
)
