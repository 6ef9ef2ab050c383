"""Open set of contestants: a file per family, with `run(spec, session)`, which works until it is ended."""
