"""The command line, one module per command: `register` names arguments, `run` runs."""
