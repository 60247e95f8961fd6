"""What the data column holds: the session's dict as bytes, and how these are encrypted."""
