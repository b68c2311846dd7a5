"""Statistics of paired differences: intervals, tests, verdicts, shares of variance, power (protocol 11).

It knows arrays of scores and nothing of studies, networks or files.
"""

LEVEL = 0.95
"""Coverage of every interval."""
STRICT = 0.99
"""Coverage of the intervals of a contest, which a method wins only against all its rivals."""
ALPHA = 0.05
"""Error of a family of tests: the chance of one false claim or more where there is no difference."""
POWER = 0.8
"""Chance with which a difference that "could have been seen" would have been."""
SEEDS_FOR_INTERVAL = 5
"""With fewer seeds a number is printed alone."""
SEEDS_FOR_TEST = 20
"""With fewer seeds nothing is tested."""
