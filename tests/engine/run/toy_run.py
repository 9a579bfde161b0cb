"""`duetto run` with the toy in the place of the pair: `python -m tests.engine.run.toy_run ARGS`."""

import functools
import sys

import duetto.run.run as production
from duetto.cli.main import main
from tests.engine.md.toy import ToyModel

if __name__ == "__main__":
    production.run = functools.partial(production.run, potential_factory=ToyModel)
    sys.exit(main(["run", *sys.argv[1:]]))
