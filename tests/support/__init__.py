"""Parts that tests share: the scripted vendor, and what it speaks."""
