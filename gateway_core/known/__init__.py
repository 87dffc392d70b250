"""What is known of hosts and models: data that Headgate ships, each row with its source and the day it was read."""
