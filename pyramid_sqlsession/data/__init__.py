"""What the data column holds: the serialized session, and its encryption."""
