"""The command line: each file parses the words of one command group, calls the library and prints."""
