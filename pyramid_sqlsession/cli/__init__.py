"""The command line: operating the sessions of an application."""
