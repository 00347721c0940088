"""A reader's own pictures as a training set: a folder, and a TOML recipe that says how to take it.

Pictures are taken as they are and read once, hashed by their pixels; whatever changes in them
changes the recipe's identity. Pictures that lie in several sources are found before anything
trains.
"""
