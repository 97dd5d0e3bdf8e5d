"""`python -m unmem` is `unmem`."""

from unmem.cli.app import main

main()
