"""Files that tests put into images and engines."""
