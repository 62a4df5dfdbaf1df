"""The overview: whether the site is well, and what it does now.

`activity` computes figures of the last hour, `health` finds what needs attention, `views` has the
page and what it polls.
"""
