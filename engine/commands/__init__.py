"""The commands of the command line, one module each: `register` names arguments, `run` runs."""
