"""Files, folders and tables that records lie in, read strictly."""
