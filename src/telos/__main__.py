"""`python -m telos` is the command `telos`."""

from telos.cli import main

main()
