"""The settings: from an ini file or keywords to one frozen object."""
