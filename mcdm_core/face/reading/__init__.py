"""Reading faces: landmarks, pose and values of a picture, a face through a video, what makes a portrait hard."""
