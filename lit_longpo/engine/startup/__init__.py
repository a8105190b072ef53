"""Start-up checks of a model: whether it is scored and answers right, and in which way."""
