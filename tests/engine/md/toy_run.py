"""`duetto run` with the toy in the place of the pair: `python -m tests.engine.md.toy_run ARGS`."""

import functools
import sys

import duetto.md.production as production
from duetto.cli import main
from tests.engine.md.toy import ToyModel

if __name__ == "__main__":
    production.run = functools.partial(production.run, potential_factory=ToyModel)
    sys.exit(main(["run", *sys.argv[1:]]))
