"""The model registry and the HTTP server."""
