"""Which architectures are known: YAML files, read into Structures; imports no torch."""
