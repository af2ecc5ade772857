"""The only place that speaks to the blob store, through obstore: a local directory, or S3."""
