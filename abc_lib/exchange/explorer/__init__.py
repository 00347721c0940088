"""The page on which landscapes are looked at image by image, and what it shows."""
