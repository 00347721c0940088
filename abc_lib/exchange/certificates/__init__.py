"""A sample's counterfactual distances in a file that anyone can check with the members (3.5)."""
