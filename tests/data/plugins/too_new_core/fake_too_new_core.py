"""Would fail if it were imported."""

raise RuntimeError("imported although its requirement does not fit")
