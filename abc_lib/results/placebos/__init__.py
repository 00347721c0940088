"""Every effect beside its placebo: ablations along codewords that no source owns.

``landscapes`` are placebo landscapes, ``memory`` one ensemble's radii beside placebo radii and what
its members remember, ``evidence`` what one code says about every source, ``signal`` several codes
together: p-values, reliability and power.
"""
