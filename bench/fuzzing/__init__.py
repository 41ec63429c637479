"""Mutated inputs for everything that reads what a user, an upstream or a disk brings.

Run it:  python -m bench.fuzzing TARGET|GROUP|all --seconds 600      (``--list`` names the targets)

Anything but a result or a one-line `InputError` is a crash; so is an input that takes too long or too much memory. With
`atheris` installed, inputs that reach new code are kept and mutated further; without it, legal inputs and the kept ones
are mutated at random. What was found lies in ``.fuzzing/TARGET/``; every crash that was mended stays in
``tests/fuzzing/corpus/TARGET/``, which the test suite replays.
"""
