"""The pages. They use the session as they would any other Pyramid session: as a dict."""
