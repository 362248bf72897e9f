"""Sets up the project's environment: `python3 -m bootstrap`, which `make setup` calls.

It runs before anything is installed, so it imports Python's standard library only. What a set-up consists of is
written in steps.py, what versions it takes in setup.cfg, how Horovod is compiled in recipe.py and cmake/.
"""
