"""The ``ecco`` program; one module per command group, each light to import."""
