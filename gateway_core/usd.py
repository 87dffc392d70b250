"""Money as it is told: units of 10^-12 US dollars as decimal numbers of dollars."""

PICO = 10**12


def usd_text(pico: int) -> str:
    """Picodollars as a decimal number of US dollars: no exponent, no zeros at its end, at least "0"."""
    if 0 < pico < PICO:  # as what most calls cost
        return "0." + str(pico).zfill(12).rstrip("0")
    if pico < 0:
        return f"-{usd_text(-pico)}"
    if not pico:
        return "0"
    digits = str(pico)
    return f"{digits[:-12]}.{digits[-12:]}".rstrip("0").rstrip(".")
