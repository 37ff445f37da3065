"""What tells that a video is synthetic: the container's note, content credentials, words in every frame."""
