"""From a folder of raw videos to a set of talking faces: the recipe of TalkingFace-Wild (section 4.1)."""
