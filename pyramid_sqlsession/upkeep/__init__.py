"""What is done to all sessions, outside of requests."""
