"""Whose connection a session is read and written through."""
