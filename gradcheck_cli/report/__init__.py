"""Outcome → something showable: a table, one line, JSON. Prints nothing and decides nothing.

``table`` alone imports rich, so a caller that wants JSON or one line never pays for it.
"""
