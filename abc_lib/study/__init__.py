"""The published study: what there is to do, what it costs, what the paper claimed, and the pages that show it.

The command line is here as well.
This room may use all others; none uses it.
"""
