"""A campaign that tries to break widemax: kills, faults, damage, odd input, company.

``python -m tests.torture --minutes 10`` (or ``make torture``) runs attempts until the time is over, prints
how many were tried, right and wrong, and keeps a case of each wrong one. Every file here but ``child``,
``ground`` and ``__main__`` is one campaign: ``attempts`` yields one attempt after the other, for ever.
"""
