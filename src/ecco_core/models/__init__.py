"""How a network is opened: where its parts are, how they are read, and how it is scored."""
