"""Which known bug is it? The catalogue, the fit of its entries to a wrong gradient, and what cannot be seen.

A bug is one entry in one form (`bug.py`): a changed recipe, a factor of each row, or one factor for all. The
sections (`scale`, `upstream`, `micro`, `labels`, `smoothing`, `softmax`, `chain`, `extras`, `numerics`,
`memory`) hold the entries and `catalogue.py` lists them. Read `diagnose.py` first: `sample.py` draws rows,
`solve.py` and `fit.py` decide which hypotheses explain them, `survey.py` makes sure on every entry,
`stepwise.py` looks for what only all rows show, and `where.py` says where the failures are, named or not.
"""
