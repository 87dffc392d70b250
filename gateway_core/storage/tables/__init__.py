"""The tables, as the newest migration leaves them: a module for each domain that keeps something.

Ids are UUIDs of version 7 as text, times (`_us`) microseconds since 1970-01-01 UTC, money (`_pico_usd`) integers of
10^-12 US dollars, secrets sealed bytes. A row with `deleted_us` is gone for everybody; it stays for those that name it.
"""
