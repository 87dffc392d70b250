"""Money as it is told: units of 10^-12 US dollars as decimal numbers of dollars."""

PICO = 10**12


def usd_text(pico: int) -> str:
    """Picodollars as a decimal number of US dollars: no exponent, no zeros at its end, at least "0"."""
    whole, rest = divmod(abs(pico), PICO)
    sign = "-" if pico < 0 else ""
    return f"{sign}{whole}.{f'{rest:012d}'.rstrip('0')}" if rest else f"{sign}{whole}"
