"""Maintenance of all sessions, outside of requests."""
