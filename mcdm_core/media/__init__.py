"""Reading and writing of sound, pictures and videos at the border of the models."""
