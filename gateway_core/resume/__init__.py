"""Streams that go on without their callers for a while, and can be continued."""
