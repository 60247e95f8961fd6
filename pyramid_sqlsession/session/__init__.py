"""The session as a request knows it: the mapping, what was done to it, and how it merges."""
