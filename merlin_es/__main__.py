"""`python -m merlin_es` is `merlin`."""

from merlin_es import cli

cli.main()
