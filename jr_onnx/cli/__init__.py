"""The command line: it parses, calls the API, and prints; one file a command."""
