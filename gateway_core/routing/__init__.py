"""Which target a call is tried at, and what is done when one fails: all that the stages `route` and `fallback` decide.

The stages do the waiting and the asking; what is here decides, and is told the time and its chances.
"""
