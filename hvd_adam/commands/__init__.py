"""One module a command. What a command needs is imported inside it: `hvd-adam --help` imports no torch."""
