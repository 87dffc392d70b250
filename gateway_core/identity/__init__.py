"""Who calls: accounts, their keys, and the secret that their webhooks are signed with."""
