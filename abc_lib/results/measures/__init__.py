"""What is worked out from results, and kept nowhere: radii, agreement of methods, attribution."""
