"""The part of the configuration that says how the listeners prove who they are, and whom they believe."""
