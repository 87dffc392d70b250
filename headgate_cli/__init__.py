"""The program `headgate`: serves, chats, lists models and says what is wrong. It knows the core and the bridge."""
