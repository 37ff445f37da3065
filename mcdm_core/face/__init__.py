"""What is ours beside the paper: landmarks, the face network, crops, the warp, the mouth, compositing."""
