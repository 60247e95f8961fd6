"""One request's use of its session, from its cookie to its response."""
