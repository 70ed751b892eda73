"""The `cigocc` command line: one thin file per verb, heavy libraries imported only in `run`."""
