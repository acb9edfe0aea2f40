"""The command line: one module per command, each parsing and calling one function of a stage."""
