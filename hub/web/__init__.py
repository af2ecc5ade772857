"""The hub over HTTP: health and metrics for machines."""
