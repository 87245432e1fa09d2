"""``python -m ecco_core.cli``: the same as ``ecco``."""

from ecco_core.cli.main import main

main()
