"""Results for others, and back: counterfactual universes, Parquet, NumPy, certificates, and the page to look through landscapes.

What comes from strangers is read within bounds and refused in one line.
What is written appears whole or not at all.
"""
